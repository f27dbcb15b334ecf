"""Off-policy evaluation: the quality and cost of a router, estimated from logged decisions."""
