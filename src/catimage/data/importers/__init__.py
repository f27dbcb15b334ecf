"""Readers of files that users supply: scores, costs and images."""
