"""The eight stages, one module each: read tables, call the core, write tables."""
