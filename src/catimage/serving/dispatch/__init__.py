"""Admission, dispatch to the generator groups, fallback, and circuit breakers."""
