"""Prompt sources, diversity and splits."""
