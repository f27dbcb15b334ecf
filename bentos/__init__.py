"""BentoML services: a router in front of the generators, with routes of the OpenAI API."""
