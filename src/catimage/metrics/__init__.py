"""Quality metrics: scores of an image, of an image and its reference, and of sets of images."""
