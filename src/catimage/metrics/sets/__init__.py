"""Metrics of sets of images: distance to real images, and diversity."""
