"""AdaCLIP in plain PyTorch on an open_clip backbone; knows no Ray and no pipeline."""

from .adaclip import AdaCLIP, AdaCLIPSettings, Features, FrozenPass, Prediction
from .checkpoint import load_adaclip, load_checkpoint, save_checkpoint

__all__ = [
    "AdaCLIP",
    "AdaCLIPSettings",
    "Features",
    "FrozenPass",
    "Prediction",
    "load_adaclip",
    "load_checkpoint",
    "save_checkpoint",
]
