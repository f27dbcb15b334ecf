"""Feature steps: transformers of prompts to the input of a regressor."""
