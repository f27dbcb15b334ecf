"""Routing policy, exact deferral curve, calibration of lambda, and the plateau rule."""
