"""Golden images of the kinds of generators, with the digest of the code that generated them."""
