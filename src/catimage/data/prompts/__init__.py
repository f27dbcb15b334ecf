"""Prompts: sources, cleaning, diversity."""
