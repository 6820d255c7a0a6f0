"""Thresholds people can use: from known-good images, with what their number allows to promise."""

from .limits import BestF1, CalibrationError, Limit, find_best_f1, find_limit, images_needed
from .thresholds import (
    MEASURES,
    Calibration,
    Measure,
    Use,
    above,
    as_text,
    calibrate,
    read_calibration,
    write_calibration,
)

__all__ = [
    "MEASURES",
    "BestF1",
    "Calibration",
    "CalibrationError",
    "Limit",
    "Measure",
    "Use",
    "above",
    "as_text",
    "calibrate",
    "find_best_f1",
    "find_limit",
    "images_needed",
    "read_calibration",
    "write_calibration",
]
