"""The scene grammar of the embedded pool: captions, renderer, parser."""
