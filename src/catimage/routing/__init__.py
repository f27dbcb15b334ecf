"""Routing policy, exact deferral curve and calibration of lambda, with numpy and scipy."""
