"""Infinity (Han et al. 2024), run by its authors' package where that is installed; its cost is
counted without it.
"""
