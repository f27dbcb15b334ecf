"""The parameters of ``params.yaml``: typed sections, default values and changes of values.

The sections are named after the stages.
"""

from catimage.params.all import Params
from catimage.params.data import (
    CompositeParams,
    CompositeTerm,
    EncoderParams,
    GenerateParams,
    ImportParams,
    LabelParams,
    SampleParams,
    ValidateParams,
    WeightsParams,
)
from catimage.params.editing import apply_setting, read_tree, save_params
from catimage.params.evaluate import (
    EvaluateParams,
    PackageParams,
    PlateauMetricParams,
    PlateauParams,
    PromoteParams,
)
from catimage.params.loading import load_params, parse_params
from catimage.params.monitor import MonitorParams
from catimage.params.sources import DecisionSource, FileSource, SceneSource
from catimage.params.train import (
    ESTIMATOR_KINDS,
    CalibrateParams,
    EstimatorParams,
    FeatureParams,
    TrainParams,
)

__all__ = [
    "ESTIMATOR_KINDS",
    "CalibrateParams",
    "CompositeParams",
    "CompositeTerm",
    "DecisionSource",
    "EncoderParams",
    "EstimatorParams",
    "EvaluateParams",
    "FeatureParams",
    "FileSource",
    "GenerateParams",
    "ImportParams",
    "LabelParams",
    "MonitorParams",
    "PackageParams",
    "Params",
    "PlateauMetricParams",
    "PlateauParams",
    "PromoteParams",
    "SampleParams",
    "SceneSource",
    "TrainParams",
    "ValidateParams",
    "WeightsParams",
    "apply_setting",
    "load_params",
    "parse_params",
    "read_tree",
    "save_params",
]
