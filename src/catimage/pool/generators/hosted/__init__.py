"""Hosted generators: models behind an HTTP API like OpenAI's, with a price per image."""
