"""Decisions of the service: which candidate answers each request."""
