"""Labelled data sets: the scores of their images, and the metrics of each category."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.config import EvaluateConfig
from pipeline.distributed.choosing import choose_identity, rows_of
from pipeline.distributed.scoring import score_bucket
from pipeline.errors import CannotRunError
from pipeline.evaluation import image_metrics
from pipeline.identity import ModelIdentity
from pipeline.output.layout import CONFIG, RUNS, run_folder, scores_of
from pipeline.output.rows import HELD_BY, plain, rows_that_hold
from pipeline.output.snapshot import read_scores, score_dataset
from pipeline.schema import SCORE_SCHEMA, ErrorCode
from pipeline.storage import StorageError, absolute, read_object, write_object

from .pixels import measure_pixels

_log = logging.getLogger(__name__)

NOT_SCORED = "not_scored"
ERROR_COLUMNS = ["dataset", "category", "uri", "error", "error_message"]
LOST_COLUMNS = ["dataset", "category", "uri", "reason"]
_SCORED = (
    *("score", "score_logit", "width", "height", "map_file", "map_row"),
    *("error", "error_message"),
)


@dataclass(frozen=True)
class LabelledSet:
    """One data set to measure."""

    name: str
    uri: str
    checkpoint: str
    """AdaCLIP weights to score it with."""
    rows: pa.Table
    """``schema.LABELLED_SCHEMA``."""


def score_sets(
    config: EvaluateConfig, sets: Sequence[LabelledSet], page: bool = True
) -> pd.DataFrame:
    """Score what the output doesn't hold yet.

    Args:
        config: the job's settings.
        sets: the data sets.
        page: write the report.html of each run.

    Returns:
        All labelled rows with their scores: ``schema.LABELLED_SCHEMA``, dataset, model, and of the
        score table what metrics need; what has no score has an error.

    Raises:
        CannotRunError: the model, the output or the cluster can't be used as configured.
        StorageError: a list can't be written.
    """
    output = absolute(config.output)
    joined: dict[str, pd.DataFrame] = {}
    for checkpoint in dict.fromkeys(each.checkpoint for each in sets):
        chosen = [each for each in sets if each.checkpoint == checkpoint]
        lists = tuple(_write_list(each, output) for each in chosen)
        report = score_bucket(config.score_config(lists, checkpoint), page=page)
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


def existing_scores(
    config: EvaluateConfig, sets: Sequence[LabelledSet]
) -> tuple[pd.DataFrame, EvaluateConfig]:
    """The same of the scores that --scores holds, and the settings with what the model saw.

    Raises:
        CannotRunError: they are of several models, or of images of another size.
        StorageError, FileNotFoundError: they can't be read.
    """
    output = absolute(str(config.scores))
    scores = _read_scores(output, sets)
    found = f"{config.scores} holds scores of these images by"
    none = "score them first, or leave --scores"
    identity = choose_identity(scores, config.fingerprint, found=found, none=none)
    seen = _sizes(config, output, rows_of(scores, identity).run_id.iloc[0])
    frame = pd.concat([_joined(each, scores, identity) for each in sets], ignore_index=True)
    return frame, replace(config, **seen)


def _sizes(config: EvaluateConfig, output: str, run_id: str) -> dict[str, Any]:
    """Maps are measured at the size at which the model saw the images."""
    try:
        settings = json.loads(read_object(f"{run_folder(output, run_id)}/{CONFIG}")[0])
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise
        if not config.image_size:  # a table may be kept without its runs
            raise CannotRunError(
                f"{config.scores} has no {RUNS}/{run_id}/{CONFIG}, which tells the size of its "
                "images; give --image-size, the one that they were scored at"
            ) from error
        return {"image_size": config.image_size}
    size: int = settings["image_size"]
    if config.image_size not in (0, size):
        raise CannotRunError(f"{config.scores} was scored at {size} px; leave --image-size out")
    later = {"tiles": 1, "tile_size": 0}  # which runs of older versions have not
    return {"image_size": size} | {name: settings.get(name, later[name]) for name in later}


def _read_scores(output: str, sets: Sequence[LabelledSet]) -> pd.DataFrame:
    """The score row that holds of every labelled image, category and model."""
    uris = pa.concat_arrays([each.rows["uri"].combine_chunks() for each in sets])
    columns = list(dict.fromkeys([*HELD_BY, "run_id", *_SCORED]))
    folder = scores_of(output)

    def read(files: list[str]) -> pa.Table:
        dataset = score_dataset(folder, files, SCORE_SCHEMA)
        return dataset.to_table(columns=columns, filter=pc.field("uri").isin(uris))

    return rows_that_hold(plain(read_scores(folder, read)).to_pandas())


def _joined(labelled: LabelledSet, scores: pd.DataFrame, identity: ModelIdentity) -> pd.DataFrame:
    rows: pd.DataFrame = labelled.rows.to_pandas()
    scores = rows_of(scores, identity)[["uri", "category", *_SCORED]]
    frame = rows.merge(scores, how="left", on=["uri", "category"], validate="one_to_one")
    absent = frame.score.isna() & frame.error.isna()
    frame.loc[absent, "error"] = NOT_SCORED
    frame.loc[absent, "error_message"] = "no score under this category and model"
    return frame.assign(dataset=labelled.name, model=frame.category.map(identity.of))


def error_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Images that could not be used: ``ERROR_COLUMNS``."""
    return frame.loc[frame.error.notna(), ERROR_COLUMNS].reset_index(drop=True)


def lost_masks(frame: pd.DataFrame) -> pd.DataFrame:
    """Images whose masks say nothing at this size: ``LOST_COLUMNS``."""
    lost = frame[frame.lost_mask.notna()].rename(columns={"lost_mask": "reason"})
    return lost[LOST_COLUMNS].reset_index(drop=True)


def category_rows(config: EvaluateConfig, frame: pd.DataFrame, output: str) -> list[dict[str, Any]]:
    """Metrics of each category, as ``metrics_table`` takes them.

    Args:
        config: the job's settings.
        frame: of ``score_sets``; a mask that can't be used becomes an error of it.
        output: the folder that holds the maps.

    Raises:
        CannotRunError: the images were scored without maps.
        StorageError: a map can't be read.
    """
    frame["group"] = frame.groupby(["dataset", "category"], sort=False).ngroup()
    _log.info(f"measuring {len(frame):,} images")
    longest = float(np.nan_to_num(frame[["width", "height"]].max().max()))
    size = config.measured_size(longest)
    logits = config.map_filter == "logits"
    pixels = measure_pixels(frame, output, image_size=size, sigma=config.sigma, logits=logits)
    groups = frame.groupby("group")
    return [_category_row(rows, pixels.get(rows.group.iloc[0])) for _, rows in groups]


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
        **image_metrics(_ranks(usable), usable.label.to_numpy()),
        **(pixels or {}),
    }


def _ranks(rows: pd.DataFrame) -> NDArray[np.float64]:
    """Places in the order of the scores [n], and of their logits where scores near 1 are equal.

    Metrics of images depend on the order alone.
    """
    order = rows[["score", "score_logit"]].astype("float64").fillna({"score_logit": -np.inf})
    return np.asarray(order.groupby(["score", "score_logit"]).ngroup(), np.float64)
