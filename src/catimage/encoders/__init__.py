"""Frozen text encoders (open_clip and sentence-transformers models), and caches of embeddings."""
