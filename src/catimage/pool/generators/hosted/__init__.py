"""Hosted generators: models behind an HTTP API like OpenAI's, paid per image."""
