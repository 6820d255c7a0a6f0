"""What must hold after a run and when all is done, read from the S3 server behind the proxy."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.schema import FINAL_ERRORS, SCORE_SCHEMA

from .images import Reference

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TOLERANCE = 1e-3  # of scores and map probabilities; a stored logit rounds it by half of that
CANNOT_RUN, FAILED, DONE = 2, 1, 0

Version = tuple[str, str]  # uri, etag


@dataclass
class Findings:
    """What does not hold, in words; empty lists are what one hopes for."""

    lost: list[str] = field(default_factory=list)
    """Listed objects without a final row."""
    doubled: list[str] = field(default_factory=list)
    """Second final rows of one image."""
    exit_codes: list[str] = field(default_factory=list)
    """Runs that ended with a code that does not fit what they did."""
    wrong: list[str] = field(default_factory=list)
    """Maps, scores, labels and totals that are not right."""

    def add(self, other: Findings) -> None:
        """Take over what another check found."""
        for name, found in vars(other).items():
            getattr(self, name).extend(found)

    def __bool__(self) -> bool:
        return any(vars(self).values())


class Bucket:
    """One test's bucket: objects below in/, the job's output below out/."""

    def __init__(self, client: S3Client, name: str) -> None:
        self._client, self.name = client, name

    @property
    def input(self) -> str:
        """Prefix that the job scores."""
        return f"s3://{self.name}/in"

    @property
    def output(self) -> str:
        """Folder that the job writes."""
        return f"s3://{self.name}/out"

    def keys(self, prefix: str) -> dict[str, str]:
        """ETags by key."""
        pages = self._client.get_paginator("list_objects_v2")
        listed = pages.paginate(Bucket=self.name, Prefix=prefix)
        return {o["Key"]: o["ETag"] for page in listed for o in page.get("Contents", ())}

    def read(self, key: str) -> bytes:
        """Body of an object."""
        return self._client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def put(self, key: str, body: bytes) -> None:
        """Write an object."""
        self._client.put_object(Bucket=self.name, Key=key, Body=body)

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._client.delete_object(Bucket=self.name, Key=key)

    def versions(self) -> set[Version]:
        """What an undisturbed listing finds now."""
        return {(f"s3://{self.name}/{key}", etag) for key, etag in self.keys("in/").items()}

    def rows(self) -> pd.DataFrame:
        """The whole score table."""
        files = [key for key in self.keys("out/scores/") if key.endswith(".parquet")]
        tables = [pq.read_table(io.BytesIO(self.read(key))).to_pandas() for key in files]
        return pd.concat(tables) if tables else pd.DataFrame(columns=SCORE_SCHEMA.names)

    def reports(self) -> dict[str, dict[str, Any] | None]:
        """report.json by run id; None where the run left none."""
        keys = self.keys("out/runs/")
        runs = {key.split("/")[2] for key in keys}
        names = {run: f"out/runs/{run}/report.json" for run in runs}
        return {run: json.loads(self.read(n)) if n in keys else None for run, n in names.items()}


def final(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that no later run tries again."""
    return rows[rows.score.notna() | rows.error.isin([code.value for code in FINAL_ERRORS])]


def final_versions(rows: pd.DataFrame) -> set[Version]:
    """Objects that are done."""
    done = final(rows)
    return set(zip(done.uri, done.etag, strict=True))


def check_run(
    before: set[Version],
    done_before: set[Version],
    after: pd.DataFrame,
    reports: Mapping[str, dict[str, Any] | None],
    *,
    returncode: int,
    killed: bool,
    max_error_rate: float,
) -> Findings:
    """One run: its exit code and its report against the rows that it wrote.

    Args:
        before: objects that the run had to list.
        done_before: of which these needed no score.
        after: the score table after the run.
        reports: of the run, by run id: one, or none if it ended before it began.
        returncode: of the process; negative for a signal.
        killed: the signal was this harness's.
    """
    found = Findings()
    mine = after[after.run_id.isin(list(reports))]
    if (twice := mine.image_id.duplicated()).any():
        found.wrong.append(f"{twice.sum()} images have two rows of one run")
    if killed:
        return found
    if returncode not in (DONE, FAILED, CANNOT_RUN):
        found.exit_codes.append(f"the run ended with {returncode}")
    if returncode == CANNOT_RUN and len(mine):
        found.exit_codes.append(f"the run says it scored nothing, but wrote {len(mine)} rows")
    report = next(iter(reports.values()), None)
    if report is None or report["status"] not in ("done", "too_many_errors"):
        if returncode == DONE:
            status = report["status"] if report else "no report"
            found.exit_codes.append(f"exit code 0, but the report says {status}")
        if report and report["counts"]["scored"] + report["counts"]["errors"] > len(mine):
            found.wrong.append(f"the report counts rows that were never written: {len(mine)}")
        return found
    scored, errors = int(mine.score.notna().sum()), int(mine.score.isna().sum())
    known = known_errors(after[~after.run_id.isin(list(reports))], before & done_before)
    expected = {
        "listed": len(before),
        "scored": scored,
        "skipped": len(before & done_before),
        "errors_before": len(known),
        "errors": errors,
        "not_reached": 0,
        "excluded": 0,
    }
    if report["counts"] != expected:
        found.wrong.append(f"the report counts {report['counts']}, storage holds {expected}")
    if len(before) != scored + errors + len(before & done_before):
        found.lost.append(f"{len(before)} objects listed; rows and skipped make {expected}")
    # What is listed was listed by all of a soak's runs, so its scan date adds no third share.
    shares = [(errors, len(mine)), (errors + len(known), len(before))]
    too_many = any(images and wrong / images > max_error_rate for wrong, images in shares)
    told = f"{errors} errors in {len(mine)} rows, {len(known)} before"
    if returncode == DONE and too_many:
        found.exit_codes.append(f"exit code 0 with {told}")
    if (report["status"] == "too_many_errors") != too_many:
        found.exit_codes.append(f"{report['status']} with {told}")
    return found


def known_errors(rows: pd.DataFrame, versions: set[Version]) -> set[Version]:
    """Of some versions those that ended in an error before, and have no score."""
    ended = final(rows)
    scored = ended[ended.score.notna()]
    failed = ended[ended.score.isna()]
    return versions & (
        set(zip(failed.uri, failed.etag, strict=True))
        - set(zip(scored.uri, scored.etag, strict=True))
    )


def check_end(bucket: Bucket, reference: Reference, ever: set[Version]) -> Findings:
    """All is done: each object has exactly one final row, and what the rows say is right.

    Args:
        reference: what the model makes of each object's bytes.
        ever: every version of every object that there ever was.
    """
    found = Findings()
    rows = bucket.rows()
    done = final(rows)
    missing = bucket.versions() - final_versions(rows)
    found.lost += [f"{uri} ({etag}) has no final row" for uri, etag in sorted(missing)]
    doubled = done[done.image_id.duplicated() | done.duplicated(["uri", "etag", "model"])]
    found.doubled += [f"{uri} has a second final row" for uri in doubled.uri]
    unknown = done[[v not in ever for v in zip(done.uri, done.etag, strict=True)]]
    found.wrong += [f"{r.uri} never had the etag {r.etag}" for r in unknown.itertuples()]
    scored = done[done.score.notna()]
    for name, shard in scored.groupby("map_file", dropna=False):
        found.wrong += _check_maps(bucket, name, shard, reference)
    return found


def _check_maps(bucket: Bucket, name: Any, rows: pd.DataFrame, reference: Reference) -> list[str]:
    if not isinstance(name, str) or f"out/{name}" not in bucket.keys(f"out/{name}"):
        return [f"{uri} has no map: {name} does not exist" for uri in rows.uri]
    maps = pq.read_table(io.BytesIO(bucket.read(f"out/{name}"))).to_pylist()
    wrong = []
    for row in rows.itertuples():
        at = int(row.map_row)  # type: ignore[call-overload]
        if at >= len(maps) or maps[at]["image_id"] != row.image_id:
            wrong.append(f"{row.uri}: row {at} of {name} is not its map")
            continue
        score, expected = reference[str(row.etag), str(row.category)]
        if not np.allclose(probabilities(maps[at]), expected, rtol=0, atol=TOLERANCE):
            wrong.append(f"{row.uri}: its map is not the one of its etag {row.etag}")
        if abs(row.score - score) > TOLERANCE:  # type: ignore[operator]
            wrong.append(f"{row.uri}: its score {row.score} is not {score}")
    return wrong


def probabilities(row: Mapping[str, Any]) -> NDArray[np.float32]:
    """The map of a row of a map shard at the grid's own size."""
    logits = np.array(row["logit_grid_q8"], dtype=np.float32) / 256
    return 1 / (1 + np.exp(-logits))
