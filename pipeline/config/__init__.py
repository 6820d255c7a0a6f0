"""The jobs' settings. Every field is a command-line flag; its docstring is the flag's help."""

from .benchmark import BenchmarkConfig
from .calibrate import CalibrateConfig
from .evaluate import EvaluateConfig
from .model import NONE, ModelConfig
from .score import DEFAULT_CATEGORY_COLUMN, ScoreConfig
from .train import TrainConfig

__all__ = [
    "DEFAULT_CATEGORY_COLUMN",
    "NONE",
    "BenchmarkConfig",
    "CalibrateConfig",
    "EvaluateConfig",
    "ModelConfig",
    "ScoreConfig",
    "TrainConfig",
]
