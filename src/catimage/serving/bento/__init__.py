"""BentoML services of the router and of the generator groups, and their processes."""
