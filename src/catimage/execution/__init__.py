"""Executors, which call a function for each shard (a file of images) of a stage."""
