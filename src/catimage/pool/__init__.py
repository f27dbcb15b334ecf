"""Pools: candidates, the generators of their images, and their costs."""
