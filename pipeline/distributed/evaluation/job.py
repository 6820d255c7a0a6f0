"""Evaluation: labelled data sets → scores by the scoring graph → metrics a category."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

import pandas as pd
import pyarrow.compute as pc

from pipeline.config import EvaluateConfig
from pipeline.datasets import DatasetError, read_dataset
from pipeline.datasets.auxiliary import split_name
from pipeline.distributed.cluster import start
from pipeline.errors import CannotRunError
from pipeline.evaluation import metrics_table, paper_checkpoint
from pipeline.evaluation.paper import DATASETS
from pipeline.evaluation.protocols import protocol_table
from pipeline.evaluation.table import AVERAGE
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, absolute, list_objects

from .labelled import (
    LOST_COLUMNS,
    LabelledSet,
    category_rows,
    error_rows,
    existing_scores,
    lost_masks,
    score_sets,
)
from .protocols import measure_protocols
from .steps import COLUMNS, Step, plan

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What was measured."""

    table: pd.DataFrame
    """``pipeline.evaluation.metrics_table``."""
    errors: pd.DataFrame
    """Images that could not be used: dataset, category, uri, error, error_message."""
    missing: list[str]
    """Data sets of the paper that were not there."""
    scores: pd.DataFrame
    """Usable images: dataset, category, label (1 abnormal, 0 good), score."""
    lost_masks: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=LOST_COLUMNS))
    """Images whose masks say nothing at this size: dataset, category, uri, reason."""
    protocols: pd.DataFrame = field(default_factory=lambda: protocol_table(()))
    """``pipeline.evaluation.protocols.protocol_table``; empty if none was asked for."""
    map_filter: str = "probabilities"
    """What pixel metrics are of, as ``EvaluateConfig.map_filter``."""

    @property
    def num_images(self) -> int:
        """Labelled images, usable or not."""
        return int(self.table.images.iloc[-1])

    @property
    def error_rate(self) -> float:
        """Share of the images that could not be used."""
        return len(self.errors) / self.num_images


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Measure labelled data sets.

    An image without a score, or with a mask that can't be used, is in none of the metrics and is
    named in ``errors``.

    Args:
        config: the job's settings.

    Raises:
        CannotRunError: a data set, its scores or the model can't be used as configured.
        StorageError: a map can't be read.
    """
    try:
        sets, missing = _read_sets(config)
        steps = {each.name: _steps(config, each) for each in sets}
        for each in sets:
            categories = len(pc.unique(each.rows["category"]))
            abnormal = pc.sum(each.rows["label"]).as_py()
            _log.info(
                f"{each.name}: {len(each.rows):,} labelled images ({len(each.rows) - abnormal:,} "
                f"good, {abnormal:,} abnormal), {categories:,} categories"
            )
        if config.scores is None:
            output = absolute(config.output)
            frame = score_sets(config, sets)
        else:
            output = absolute(config.scores)
            frame, config = existing_scores(config, sets)
    except (DatasetError, StorageError, FileNotFoundError) as error:
        raise CannotRunError(str(error)) from error
    start(config.address)
    rows = category_rows(config, frame, output)
    errors, usable = error_rows(frame), frame.error.isna()
    scores = frame.loc[usable, ["dataset", "category", "label", "score"]].reset_index(drop=True)
    found = Evaluation(
        metrics_table(rows),
        errors,
        missing,
        scores,
        lost_masks(frame),
        map_filter=config.map_filter,
    )
    if not config.has_protocols:
        return found
    protocols, more = measure_protocols(config, sets, steps, rows)
    known = pd.concat([errors, more]).drop_duplicates(["dataset", "category", "uri"])
    return replace(found, errors=known.reset_index(drop=True), protocols=protocols)


def _steps(config: EvaluateConfig, labelled: LabelledSet) -> list[Step]:
    """What a data set is also measured beside."""
    measured: pd.DataFrame = labelled.rows.to_pandas()
    training = pd.DataFrame(columns=COLUMNS)
    if config.few_shot:
        every: pd.DataFrame = read_dataset(labelled.uri, config.layout, split=None).to_pandas()
        training = every[every.split == "train"]
    return plan(config, labelled.name, measured, training)


def _read_sets(config: EvaluateConfig) -> tuple[list[LabelledSet], list[str]]:
    named = [split_name(data) for data in config.data]
    missing = []
    for folder, name in DATASETS.items() if config.paper else ():
        uri = f"{absolute(str(config.paper))}/{folder}"
        if _exists(uri):
            named.append((name, uri))
        else:
            missing.append(name)
    if missing and not config.allow_missing:
        raise CannotRunError(
            f"{config.paper} has no folder of {', '.join(missing)} (expected: "
            f"{', '.join(DATASETS)}); add them, or give --allow-missing to leave them out"
        )
    names = [name for name, _ in named]
    if not names:
        raise CannotRunError(f"{config.paper} has none of the folders {', '.join(DATASETS)}")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise CannotRunError(
            f"two data sets are called {', '.join(repeated)}; name them with --data NAME=URI"
        )
    split = None if config.split == "all" else config.split
    sets = []
    for name, uri in named:
        rows = read_dataset(uri, config.layout, split=split)
        if AVERAGE in (name, *rows["category"].to_pylist()):
            raise CannotRunError(
                f"{name}: no data set or category can be called {AVERAGE!r} in a table; rename it"
            )
        sets.append(LabelledSet(name, uri, config.checkpoint or paper_checkpoint(name), rows))
    return sets, missing


def _exists(folder: str) -> bool:
    try:
        return next(list_objects(folder), None) is not None
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise
        return False
