"""Executors: run a function over the shards of a stage."""
