"""Models behind an HTTP API of OpenAI's shape, paid by the image."""
