"""Every diffusion generator: pipelines of diffusers, as one class, one YAML entry each."""
