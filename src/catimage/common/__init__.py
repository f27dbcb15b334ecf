"""Array types, text formatting, hashing, hub errors and devices, for every layer."""
