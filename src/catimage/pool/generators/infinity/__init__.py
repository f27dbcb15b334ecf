"""Infinity-2B (Han et al. 2024), run by the package of its authors."""
