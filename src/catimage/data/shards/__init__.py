"""Image shards: plans, files, manifest, lock."""
