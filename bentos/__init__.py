"""The BentoML face: a router service in front of generator services, with OpenAI's routes."""
