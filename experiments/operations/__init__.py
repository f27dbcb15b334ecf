"""``make demo-operations``: drift, retraining, promotion and rollback with real servers.

The prompts of the traffic begin to differ from those that the router was trained on, and the
deployments of ``prefect.yaml`` react without a person. See docs/operations.md.
"""
