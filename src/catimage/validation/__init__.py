"""Validation of the data before training, with Great Expectations."""
