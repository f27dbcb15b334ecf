"""Scenes of the embedded pool: grammar, renderer and parser of captions."""
