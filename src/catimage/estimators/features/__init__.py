"""Feature steps: from prompts to what a regressor reads."""
