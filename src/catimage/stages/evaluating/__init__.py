"""The parts of stage evaluate."""
