"""Quality estimators with the API of scikit-learn."""
