"""Drift of the traffic, cost against the budget, and audits of the predicted quality."""
