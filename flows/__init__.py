"""The Prefect flow that retrains the router."""
