"""The commands' settings. Every field is a command-line flag; its docstring is the flag's help.

``page`` and ``submit`` are imported by name: with them every scorer would load tyro.
"""

from .benchmark import BenchmarkConfig
from .calibrate import CalibrateConfig
from .demo import DemoConfig
from .doctor import DoctorConfig
from .evaluate import AS_IS, EvaluateConfig
from .images import DEFAULT_CATEGORY_COLUMN, ImagesConfig
from .job import is_local
from .maintain import Compact, Publish, Vacuum
from .model import NONE, ModelConfig, ModelSpec
from .nightly import NightlyConfig
from .references import BuildReferencesConfig
from .score import AUTO, ScoreConfig
from .tables import DeltaPlace, IcebergPlace, Place, table_place
from .train import TrainConfig

__all__ = [
    "AS_IS",
    "AUTO",
    "DEFAULT_CATEGORY_COLUMN",
    "NONE",
    "BenchmarkConfig",
    "BuildReferencesConfig",
    "CalibrateConfig",
    "Compact",
    "DeltaPlace",
    "DemoConfig",
    "DoctorConfig",
    "EvaluateConfig",
    "IcebergPlace",
    "ImagesConfig",
    "ModelConfig",
    "ModelSpec",
    "NightlyConfig",
    "Place",
    "Publish",
    "ScoreConfig",
    "TrainConfig",
    "Vacuum",
    "is_local",
    "table_place",
]
