"""Evaluation protocols: labelled data sets measured beside images of their own, step by step."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import EvaluateConfig
from pipeline.distributed.references.job import build_references
from pipeline.distributed.references.sets import Built
from pipeline.evaluation.protocols import GIVEN, UNLABELLED, ZERO_SHOT, protocol_table
from pipeline.identity import references_of
from pipeline.storage import absolute, write_object

from .labelled import ERROR_COLUMNS, LabelledSet, category_rows, error_rows, score_sets
from .steps import Step

_log = logging.getLogger(__name__)

Rows = list[dict[str, Any]]

_NOTHING_CHOSEN = {
    **dict.fromkeys(("amount", "seed", "chosen", "chosen_abnormal")),
    "reason": "",
}


def measure_protocols(
    config: EvaluateConfig,
    sets: Sequence[LabelledSet],
    steps: Mapping[str, Sequence[Step]],
    rows: Rows,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Figures of AdaCLIP alone, of the given references if there are any, and of all steps.

    Args:
        config: the job's settings.
        sets: the data sets.
        steps: of each, by its name.
        rows: of the categories as ``config`` has them measured (``category_rows``).

    Returns:
        A ``protocol_table``, and the images that could not be used in some of it
        (``ERROR_COLUMNS``).

    Raises:
        CannotRunError: the references can't be made here.
        StorageError: something can't be written or read.
    """
    alone, errors = rows, [pd.DataFrame(columns=ERROR_COLUMNS)]
    if config.references is not None:
        alone, unused = _measured(replace(config, references=None), sets)
        errors.append(unused)
    table = [row | _NOTHING_CHOSEN | {"protocol": ZERO_SHOT} for row in alone]
    table += [_given(row, config.references) for row in rows if config.references is not None]
    for labelled in sets:
        for step in steps[labelled.name]:
            _log.info(f"{labelled.name}: {step.name}")
            beside, unused = _beside(config, labelled, step)
            table += beside
            errors.append(unused)
    return protocol_table(table), pd.concat(errors)


def _given(row: dict[str, Any], references: str | None) -> dict[str, Any]:
    reason = "" if references_of(row["model"]) else f"{references} holds none of it"
    return row | _NOTHING_CHOSEN | {"protocol": GIVEN, "reason": reason}


def _beside(config: EvaluateConfig, labelled: LabelledSet, step: Step) -> tuple[Rows, pd.DataFrame]:
    """A data set beside the images of a step."""
    references, built = _make_references(config, labelled, step)
    rows, errors = _measured(replace(config, references=references), [labelled])
    told = [step.columns(row["category"]) for row in rows]
    reasons = [{"reason": built.failed.get(row["category"], "")} for row in rows]
    unusable = [
        (labelled.name, category, *image)
        for category, each in built.catalogue.sets.items()
        for image in each.unusable
    ]
    errors = pd.concat([errors, pd.DataFrame(unusable, columns=ERROR_COLUMNS)])
    return [a | b | c for a, b, c in zip(rows, told, reasons, strict=True)], errors


def _make_references(
    config: EvaluateConfig, labelled: LabelledSet, step: Step
) -> tuple[str, Built]:
    """References of a step's images: where they are, and what became of the categories."""
    folder = f"{absolute(config.output)}/protocols/{labelled.name}/{step.name}"
    images, references = f"{folder}/images.parquet", f"{folder}/references"
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(step.images, preserve_index=False), sink)
    write_object(images, sink.getvalue().to_pybytes())
    settings = config.references_config(
        images,
        labelled.checkpoint,
        references,
        unlabelled=step.protocol == UNLABELLED,
        most=len(step.images),
    )
    built = build_references(settings)
    built.failed.update(step.short)
    return references, built


def _measured(config: EvaluateConfig, sets: Sequence[LabelledSet]) -> tuple[Rows, pd.DataFrame]:
    """Category rows, and the images that could not be used."""
    frame = score_sets(config, sets, page=False)
    return category_rows(config, frame, absolute(config.output)), error_rows(frame)
