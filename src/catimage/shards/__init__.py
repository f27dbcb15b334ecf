"""The images of a run, in shards that are planned, written whole and listed in a manifest."""
