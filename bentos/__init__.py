"""BentoML services: the service module of the default parameters."""
