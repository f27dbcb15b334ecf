"""Generator services: load the generators of a group, and make batches of images for the router."""
