"""Infinity-2B (Han et al. 2024), which the package of its authors runs."""
