"""Calibration: known-good images → scores by the scoring graph → thresholds."""

from __future__ import annotations

import logging
import warnings

import pandas as pd

from pipeline.calibration import (
    MEASURES,
    Calibration,
    CalibrationError,
    calibrate,
    write_calibration,
)
from pipeline.config import CalibrateConfig
from pipeline.datasets import DatasetError, read_dataset
from pipeline.errors import CannotRunError
from pipeline.results import NothingSelectedWarning, open_results
from pipeline.storage import StorageError, absolute

from .choosing import choose_identity, rows_of
from .scoring import score_bucket

_log = logging.getLogger(__name__)

THRESHOLDS = "thresholds.json"


def calibrate_model(config: CalibrateConfig) -> Calibration:
    """Thresholds from known-good images, written to the output.

    Raises:
        CannotRunError: inputs, scores, labels or the model can't be used as configured.
        CalibrationError: there is no good image with a score, or too many could not be scored.
        StorageError: the thresholds can't be written.
    """
    rows = _existing(config) if config.scores is not None else _scored(config)
    if config.labels is not None:
        rows = _labelled(rows, config.labels)
    measures = config.measure or MEASURES
    for each in sorted(set(rows.category.dropna()) - set(rows.dropna(subset=["score"]).category)):
        _log.warning(f"{each}: no image has a score")
    source = absolute(config.scores or config.output)
    calibration = calibrate(
        rows,
        false_alarm_rate=config.false_alarm_rate,
        confidence=config.confidence,
        measures=measures,
        source=source,
    )
    write_calibration(f"{absolute(config.output)}/{THRESHOLDS}", calibration)
    return calibration


def _scored(config: CalibrateConfig) -> pd.DataFrame:
    report = score_bucket(config.score_config())
    if report.status != "done":
        raise CalibrationError(report.message)
    return _rows(config.output, model=report.identity)


def _existing(config: CalibrateConfig) -> pd.DataFrame:
    rows = _rows(
        str(config.scores),
        scan_date=(config.from_date, config.to_date),
        category=config.category,
        prefix=config.prefix,
    )
    found = f"{config.scores} holds such images of"
    return rows_of(
        rows, choose_identity(rows, config.fingerprint, found=found, none="score them first")
    )


def _rows(output: str, **selection: object) -> pd.DataFrame:
    columns = ["uri", "category", "model", "scored_at", *MEASURES]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", NothingSelectedWarning)
            return open_results(output).scores(columns=columns, **selection)  # type: ignore[arg-type]
    except (FileNotFoundError, NothingSelectedWarning) as error:
        raise CannotRunError(str(error)) from error


def _labelled(rows: pd.DataFrame, labels: str) -> pd.DataFrame:
    try:
        known = read_dataset(labels, split=None).select(["uri", "label"]).to_pandas()
    except (DatasetError, StorageError) as error:
        raise CannotRunError(f"--labels can't be used: {error}") from error
    known = known.drop_duplicates("uri")
    found: pd.DataFrame = rows.merge(known, on="uri", validate="many_to_one")
    if found.empty:
        raise CannotRunError(f"none of the scored images is in {labels}; compare their URIs")
    return found
