"""Pools: candidates, the generators that make their images, and their costs."""
