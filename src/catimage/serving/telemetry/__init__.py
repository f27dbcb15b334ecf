"""Metrics, logs, traces and the decision log of the service."""
