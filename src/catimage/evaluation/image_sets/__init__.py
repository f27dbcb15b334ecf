"""Quality of whole sets of images: routed sets compared with those of fixed candidates.

CATImage names the lack of such an evaluation as a limitation.
"""
