"""The embedded pool: scenes, their rendering, and the training of the small models that draw them."""
