"""Nights of an output that is published, without running a model."""

from __future__ import annotations

from pipeline.publishing import Publication
from tests.outputs import scored, write

FOLDER = "s3://b/in"
Rows = list[dict[str, object]]


def night(output: str, day: int, made: Rows, model: str = "m", run: int = 0) -> None:
    """One score file of a day in January."""
    write(output, made, f"2026-01-{day:02d}", model, run_id=f"2026010{day}T00000{run}Z-x")


def images(*numbers: int, score: float | None = 0.5) -> Rows:
    """Rows of images; no score is an error that won't pass."""
    return [scored(FOLDER, i, score) for i in numbers]


def replaced(made: Rows) -> Rows:
    """The same objects with other contents, and so with other ids."""
    return [each | {"etag": "2", "image_id": f"f{str(each['image_id'])[1:]}"} for each in made]


def counts(done: Publication) -> tuple[int, int, int]:
    """Files that were read, rows that came, rows that went."""
    return done.files, done.added, done.removed
