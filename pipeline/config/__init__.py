"""The jobs' settings. Every field is a command-line flag; its docstring is the flag's help."""

from .benchmark import BenchmarkConfig
from .calibrate import CalibrateConfig
from .evaluate import EvaluateConfig
from .images import DEFAULT_CATEGORY_COLUMN, ImagesConfig
from .model import NONE, ModelConfig
from .references import BuildReferencesConfig
from .score import AUTO, ScoreConfig
from .train import TrainConfig

__all__ = [
    "AUTO",
    "DEFAULT_CATEGORY_COLUMN",
    "NONE",
    "BenchmarkConfig",
    "BuildReferencesConfig",
    "CalibrateConfig",
    "EvaluateConfig",
    "ImagesConfig",
    "ModelConfig",
    "ScoreConfig",
    "TrainConfig",
]
