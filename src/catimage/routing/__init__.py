"""The routing rule, the exact deferral curve and the calibration of lambda: numpy alone."""
