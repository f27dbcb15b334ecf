"""Image shards: their plans, files, manifest, lock and reference images."""
