"""Array types, hashing, hub errors and devices, used by every layer."""
