"""What past runs tell of the next one: how long it will take, and what that costs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import median

from pipeline.identity import ModelIdentity
from pipeline.output.layout import REPORT, runs_of
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, list_objects, read_object

LOOKED_AT = 100  # reports; nights without new images have no rate
RUNS = 10  # the newest that scored something: hardware and settings of long ago tell little
BEFORE = ("model", "references", "list", "start")  # stages that end before the first image
FEWEST_IMAGES = 10  # of a run whose rate counts; a shorter one measures the start of its actors


@dataclass(frozen=True)
class Rates:
    """Medians over past runs of an output."""

    images_per_s: float
    start_s: float
    """Seconds before the first image: loading the model, references and listing."""
    num_runs: int

    def seconds(self, num_images: int) -> float:
        """Expected length of a run."""
        return self.start_s + num_images / self.images_per_s if num_images else self.start_s


def past_rates(output: str, identity: ModelIdentity) -> Rates | None:
    """Rates of the newest runs under a model, from their report.json; None without such runs.

    With references a run takes longer: it is told from those with some, whichever they were.

    Raises:
        StorageError: the runs can't be listed or read.
    """
    folder = runs_of(output)
    try:
        uris = [info.uri for page in list_objects(folder) for info in page]
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise
        return None
    reports = sorted(u for u in uris if u[len(folder) + 1 :].partition("/")[2] == REPORT)
    rates: list[tuple[float, float]] = []
    for uri in reversed(reports[-LOOKED_AT:]):  # their names begin with the time
        if len(rates) < RUNS and (found := _rate(uri, identity)):
            rates.append(found)
    if not rates:
        return None
    return Rates(median(r for r, _ in rates), median(s for _, s in rates), len(rates))


def _rate(uri: str, identity: ModelIdentity) -> tuple[float, float] | None:
    try:
        report = json.loads(read_object(uri)[0])
        done = report["counts"]["scored"] + report["counts"]["errors"]
        rate, seconds = report["images_per_s"]["run"], report["seconds"]
        if report["model"] != identity.base or done < FEWEST_IMAGES or not rate:
            return None
        if bool(report.get("references")) != bool(identity.references):
            return None
        return float(rate), float(sum(seconds.get(stage, 0.0) for stage in BEFORE))
    except (ValueError, KeyError, TypeError):
        return None  # of another version, or damaged: no reason not to estimate
