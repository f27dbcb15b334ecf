"""Synthetic scenes with captions, on which the embedded pool (docs/tiny-pool.md) is trained.

:mod:`~catimage.scenes.grammar` samples random scenes and describes them in captions,
:mod:`~catimage.scenes.render` renders their images, and :mod:`~catimage.scenes.parse` reads
captions.
"""
