"""Commands that are not stages: imports, experiments, dry runs, comparison, adding a candidate."""
