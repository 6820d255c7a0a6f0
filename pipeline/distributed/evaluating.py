"""Evaluation: labelled data sets → scores by the scoring graph → metrics a category."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.config import EvaluateConfig
from pipeline.datasets import DatasetError, read_dataset
from pipeline.datasets.auxiliary import split_name
from pipeline.evaluation import image_metrics, metrics_table, paper_checkpoint
from pipeline.evaluation.paper import DATASETS
from pipeline.evaluation.table import AVERAGE
from pipeline.identity import ModelIdentity
from pipeline.schema import SCORE_SCHEMA, ErrorCode
from pipeline.snapshot import read_scores, score_dataset
from pipeline.storage import (
    StorageError,
    absolute,
    list_objects,
    read_object,
    write_object,
)

from .choosing import choose_identity, rows_of
from .errors import CannotRunError
from .measuring import measure_pixels
from .scoring import Say, score_bucket

NOT_SCORED = "not_scored"
_LOST_COLUMNS = ["dataset", "category", "uri", "reason"]
_SCORED = ("score", "width", "height", "map_file", "map_row", "error", "error_message")


@dataclass(frozen=True)
class LabelledSet:
    """One data set to measure."""

    name: str
    uri: str
    checkpoint: str
    """AdaCLIP weights to score it with."""
    rows: pa.Table
    """``schema.LABELLED_SCHEMA``."""


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
    lost_masks: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_LOST_COLUMNS))
    """Images whose masks say nothing at this size: dataset, category, uri, reason."""

    @property
    def num_images(self) -> int:
        """Labelled images, usable or not."""
        return int(self.table.images.iloc[-1])

    @property
    def error_rate(self) -> float:
        """Share of the images that could not be used."""
        return len(self.errors) / self.num_images


def evaluate(config: EvaluateConfig, say: Say = print) -> Evaluation:
    """Measure labelled data sets. Needs ``ray.init`` before.

    An image without a score, or with a mask that can't be used, is in none of the metrics and is
    named in ``errors``.

    Args:
        config: the job's settings.
        say: receives the progress lines.

    Raises:
        CannotRunError: a data set, its scores or the model can't be used as configured.
        StorageError: a map can't be read.
    """
    try:
        sets, missing = _read_sets(config)
        for each in sets:
            categories = len(pc.unique(each.rows["category"]))
            abnormal = pc.sum(each.rows["label"]).as_py()
            say(
                f"{each.name}: {len(each.rows):,} labelled images ({len(each.rows) - abnormal:,} "
                f"good, {abnormal:,} abnormal), {categories:,} categories"
            )
        if config.scores is None:
            output = absolute(config.output)
            frame = _score(config, sets, say)
        else:
            output = absolute(config.scores)
            frame = _existing_scores(config, sets)
    except (DatasetError, StorageError, FileNotFoundError) as error:
        raise CannotRunError(str(error)) from error
    frame["group"] = frame.groupby(["dataset", "category"], sort=False).ngroup()
    say(f"measuring {len(frame):,} images")
    pixels = measure_pixels(
        frame, output, image_size=config.image_size, sigma=config.sigma, say=say
    )
    table = metrics_table(
        _category_row(rows, pixels.get(rows.group.iloc[0])) for _, rows in frame.groupby("group")
    )
    columns = ["dataset", "category", "uri", "error", "error_message"]
    errors = frame.loc[frame.error.notna(), columns].reset_index(drop=True)
    usable = frame.error.isna()
    scores = frame.loc[usable, ["dataset", "category", "label", "score"]].reset_index(drop=True)
    return Evaluation(table, errors, missing, scores, _lost_masks(frame))


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


def _score(config: EvaluateConfig, sets: list[LabelledSet], say: Say) -> pd.DataFrame:
    """Score what the output doesn't hold yet; all labelled rows with their scores."""
    output = absolute(config.output)
    joined: dict[str, pd.DataFrame] = {}
    for checkpoint in dict.fromkeys(each.checkpoint for each in sets):
        chosen = [each for each in sets if each.checkpoint == checkpoint]
        lists = tuple(_write_list(each, output) for each in chosen)
        report = score_bucket(config.score_config(lists, checkpoint), say)
        scores = _read_scores(output, chosen)
        for each in chosen:
            joined[each.name] = _joined(each, scores, report.identity)
    return pd.concat([joined[each.name] for each in sets], ignore_index=True)


def _write_list(labelled: LabelledSet, output: str) -> str:
    uri = f"{output}/labels/{labelled.name}.parquet"
    sink = pa.BufferOutputStream()
    pq.write_table(labelled.rows, sink, compression="zstd")
    write_object(uri, sink.getvalue().to_pybytes())
    return uri


def _existing_scores(config: EvaluateConfig, sets: list[LabelledSet]) -> pd.DataFrame:
    """All labelled rows with the scores that --scores holds."""
    output = absolute(str(config.scores))
    scores = _read_scores(output, sets)
    found = f"{config.scores} holds scores of these images by"
    none = "score them first, or leave --scores"
    identity = choose_identity(scores, config.model, found=found, none=none)
    _check_image_size(config, output, rows_of(scores, identity).run_id.iloc[0])
    return pd.concat([_joined(each, scores, identity) for each in sets], ignore_index=True)


def _check_image_size(config: EvaluateConfig, output: str, run_id: str) -> None:
    """Maps are measured at the size at which the model saw the images."""
    try:
        settings = json.loads(read_object(f"{output}/runs/{run_id}/config.json")[0])
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:  # a table may be kept without its runs
            raise
        return
    if (size := settings["image_size"]) != config.image_size:
        raise CannotRunError(f"{config.scores} was scored at {size} px; give --image-size {size}")


def _read_scores(output: str, sets: list[LabelledSet]) -> pd.DataFrame:
    """The newest score row of every labelled image, category and model."""
    uris = pa.concat_arrays([each.rows["uri"].combine_chunks() for each in sets])
    columns = ["uri", "category", "model", "run_id", "scored_at", *_SCORED]
    folder = f"{output}/scores"

    def read(files: list[str]) -> pa.Table:
        dataset = score_dataset(folder, files, SCORE_SCHEMA)
        return dataset.to_table(columns=columns, filter=pc.field("uri").isin(uris))

    table = read_scores(folder, read)
    plain = [
        column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    frame: pd.DataFrame = pa.table(plain, names=columns).to_pandas()
    frame = frame.sort_values("scored_at", kind="stable", ignore_index=True)
    newest: pd.DataFrame = frame.drop_duplicates(["uri", "category", "model"], keep="last")
    return newest


def _joined(labelled: LabelledSet, scores: pd.DataFrame, identity: ModelIdentity) -> pd.DataFrame:
    rows: pd.DataFrame = labelled.rows.to_pandas()
    scores = rows_of(scores, identity)[["uri", "category", *_SCORED]]
    frame = rows.merge(scores, how="left", on=["uri", "category"], validate="one_to_one")
    absent = frame.score.isna() & frame.error.isna()
    frame.loc[absent, "error"] = NOT_SCORED
    frame.loc[absent, "error_message"] = "no score under this category and model"
    return frame.assign(dataset=labelled.name, model=frame.category.map(identity.of))


def _lost_masks(frame: pd.DataFrame) -> pd.DataFrame:
    lost = frame[frame.lost_mask.notna()].rename(columns={"lost_mask": "reason"})
    return lost[_LOST_COLUMNS].reset_index(drop=True)


def _category_row(rows: pd.DataFrame, pixels: dict[str, float] | None) -> dict[str, Any]:
    usable = rows[rows.error.isna()]
    first = rows.iloc[0]
    return {
        "dataset": first.dataset,
        "category": first.category,
        "model": first.model,
        "images": len(rows),
        "abnormal": int((rows.label == 1).sum()),
        "without_mask": int(
            ((usable.label == 1) & (usable.mask_uri.isna() | usable.lost_mask.notna())).sum()
        ),
        "lost_masks": int(usable.lost_mask.notna().sum()),
        "unusable": len(rows) - len(usable),
        **image_metrics(usable.score.to_numpy(), usable.label.to_numpy()),
        **(pixels or {}),
    }
