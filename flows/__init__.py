"""The Prefect face."""
