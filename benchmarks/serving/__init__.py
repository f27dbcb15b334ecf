"""Benchmarks of the service under load, beside other services in the same run."""
