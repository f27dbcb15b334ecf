"""The parts of stage calibrate."""
