"""Quality of whole sets of images.

The set of the images of the candidates that a router selects is compared with the sets of fixed
candidates. The CATImage paper names the lack of such an evaluation as a limitation.
"""
