"""Quality of whole sets of images.

The set of images that a router serves is compared with the sets of fixed candidates. The CATImage
paper names the lack of such an evaluation as a limitation.
"""
