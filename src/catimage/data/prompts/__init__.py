"""Prompts: sources, cleaning, identity and diversity."""
