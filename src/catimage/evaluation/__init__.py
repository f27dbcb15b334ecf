"""Evaluation of a router: deferral curves, intervals, tables, figures and the report."""
