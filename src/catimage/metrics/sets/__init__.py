"""Metrics of sets of images: distances from real images, and diversity."""
