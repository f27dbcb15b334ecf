"""Tables, datasets, prompts, shards and importers."""
