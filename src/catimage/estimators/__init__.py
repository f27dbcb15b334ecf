"""Estimators of the quality of candidates for a prompt, with the API of scikit-learn."""
