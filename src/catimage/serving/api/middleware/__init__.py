"""ASGI middleware: request ids and logs, keys and limits, methods, and cross-origin requests."""
