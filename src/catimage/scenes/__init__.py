"""Synthetic scenes with captions, on which the embedded pool (docs/tiny-pool.md) is trained.

:mod:`~catimage.scenes.grammar` draws random scenes and describes them in captions,
:mod:`~catimage.scenes.render` draws their images, and :mod:`~catimage.scenes.parse` reads captions.
"""
