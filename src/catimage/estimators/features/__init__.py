"""Feature steps: scikit-learn transformers from prompts to the input of a regressor."""
