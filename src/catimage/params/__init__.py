"""Typed parameters: ``params.yaml``, its defaults, and ``--set key=value``. Sections are named
after the stages.
"""

from catimage.params.all import Params
from catimage.params.data import (
    CompositeParams,
    Encoder,
    FileSource,
    Generate,
    Import,
    Label,
    Sample,
    SceneSource,
    Term,
    Validate,
    Weights,
)
from catimage.params.evaluate import Evaluate, Package, Plateau, PlateauMetric
from catimage.params.loading import apply_setting, load_params, parse_params, read_tree, save_params
from catimage.params.train import Calibrate, EstimatorParams, FeatureParams, Train

__all__ = [
    "Calibrate",
    "CompositeParams",
    "Encoder",
    "EstimatorParams",
    "Evaluate",
    "FeatureParams",
    "FileSource",
    "Generate",
    "Import",
    "Label",
    "Package",
    "Params",
    "Plateau",
    "PlateauMetric",
    "Sample",
    "SceneSource",
    "Term",
    "Train",
    "Validate",
    "Weights",
    "apply_setting",
    "load_params",
    "parse_params",
    "read_tree",
    "save_params",
]
