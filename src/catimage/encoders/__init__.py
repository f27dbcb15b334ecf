"""Frozen text encoders: open_clip and sentence-transformers models, and a cache of embeddings."""
