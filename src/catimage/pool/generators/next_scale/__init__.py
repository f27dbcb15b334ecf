"""Next-scale autoregressive generators after Infinity (Han et al. 2024, arXiv 2412.04431)."""
