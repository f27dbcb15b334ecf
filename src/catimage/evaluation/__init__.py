"""Deferral curves, intervals, tables and the report."""
