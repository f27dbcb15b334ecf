"""Diffusion generators: the text-to-image pipelines of diffusers."""
