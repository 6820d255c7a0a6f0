"""Engines on one published table: ``python -m infra.docs.published [NAME...]``.

Each script of ``docs/publishing/`` runs in an environment of its own and asks a Delta and an
Iceberg table on an S3 server (SeaweedFS), to which an output was published: whole, and again after
one of its images was scored anew. The verdicts go to ``docs/publishing/verdicts.json``, of which
``infra.docs.reference`` makes the page's table. About three minutes, most of them for installing.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import boto3
from pyiceberg.catalog import load_catalog

from infra.local import seaweedfs_server
from pipeline.results import open_results
from tests.outputs import scored, write

from . import reader_output
from .readers import ROOT, answer_of

SCRIPTS = ROOT / "docs/publishing"
VERDICTS = SCRIPTS / "verdicts.json"
FORMATS = {"delta": "delta://s3://tables/scores", "iceberg": "iceberg://readers/factory/scores"}
SINCE, LAST = "2026-11-22", "2026-11-24"  # what the scripts ask for
AGAIN = 20  # number of an image of the night before the last


@dataclass(frozen=True)
class Engine:
    """What queries a published table."""

    name: str
    script: str
    """File in ``docs/publishing/``."""
    packages: tuple[str, ...]
    """As pip takes them, the engine first; without a version: of the development tools."""

    @property
    def light(self) -> bool:
        """Whether it is installed with the development tools."""
        return "==" not in self.packages[0]


_LIBRARIES = ("deltalake==1.6.6", "pyiceberg[sql-sqlite,pyarrow]==0.12.0")
# What DuckDB would download; PyPI has these extensions for 1.5, and not yet for 2.0.
_EXTENSIONS = (f"duckdb-extension-{name}==1.5.5" for name in ("avro", "httpfs", "delta", "iceberg"))
ENGINES = (
    Engine("deltalake, pyiceberg", "python.py", ("deltalake", "pyiceberg")),
    Engine("Polars", "polars.py", ("polars",)),
    Engine("DuckDB", "duckdb.py", ("duckdb==1.5.5", "duckdb-extensions==1.5.5", *_EXTENSIONS)),
    Engine("Spark, the data files", "spark.py", ("pyspark==4.3.0", *_LIBRARIES)),
    Engine("ClickHouse", "clickhouse.py", ("chdb==4.4.0",)),
    Engine("Daft", "daft.py", ("daft==0.7.26", *_LIBRARIES)),
)


@contextmanager
def tables(work: Path) -> Iterator[dict[str, str]]:
    """An output in ``work/scores``, published to an S3 server of its own.

    Yields:
        The environment of the scripts: keys, endpoint, and where both tables are.
    """
    catalog = {"uri": f"sqlite:///{work}/catalog.db", "warehouse": "s3://tables/warehouse"}
    with seaweedfs_server() as server:
        endpoint, region = server["AWS_ENDPOINT_URL"], server["AWS_DEFAULT_REGION"]
        key, secret = server["AWS_ACCESS_KEY_ID"], server["AWS_SECRET_ACCESS_KEY"]
        session = boto3.Session(key, secret, region_name=region)
        session.client("s3", endpoint_url=endpoint).create_bucket(Bucket="tables")
        named = {f"PYICEBERG_CATALOG__READERS__{name.upper()}": catalog[name] for name in catalog}
        reader_output.make(work)
        _publish(work, server | named)
        write(str(work / "scores"), [scored(reader_output.FOLDER, AGAIN, 0.25)], LAST)
        _publish(work, server | named)
        s3 = {"s3.endpoint": endpoint, "s3.access-key-id": key, "s3.secret-access-key": secret}
        table = load_catalog("readers", **catalog, **s3).load_table("factory.scores")
        yield server | {
            "AWS_REGION": region,
            "AWS_ALLOW_HTTP": "true",
            "DELTA": FORMATS["delta"].removeprefix("delta://"),
            "METADATA": table.metadata_location,
        }


def _publish(work: Path, variables: Mapping[str, str]) -> None:
    for place in FORMATS.values():
        command = ["-m", "jobs.maintain", "publish", "--output", f"{work}/scores", "--to", place]
        environment = {**os.environ, **variables}
        subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True)


def expected(output: str) -> list[list[Any]]:
    """What every script shall find: date, rows, errors and the sum of the scores."""
    rows = open_results(output).scores(scan_date=(SINCE, None))
    nights = rows.groupby("scan_date", observed=True)
    counts = nights.agg(rows=("uri", "count"), errors=("error", "count"), total=("score", "sum"))
    found: list[list[Any]] = counts.reset_index().to_numpy().tolist()
    return found


def verdict(engine: Engine, work: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """Let an engine read both tables of ``tables``; installed below ``work`` unless it is light.

    Returns:
        Its name and version, and of each format "right", "wrong", or its error.
    """
    packages = () if engine.light else engine.packages
    answer = answer_of(SCRIPTS / engine.script, packages, work, variables)
    true = expected(str(work / "scores"))
    package = engine.packages[0]
    return {
        "engine": engine.name,
        "version": version(package) if engine.light else package.partition("==")[2],
    } | {
        name: answer.get(f"{name} error") or ("right" if _same(answer[name], true) else "wrong")
        for name in FORMATS
    }


def _same(found: list[list[Any]], true: list[list[Any]]) -> bool:
    return len(found) == len(true) and all(
        [*map(str, one[:3])] == [*map(str, other[:3])]
        and math.isclose(one[3], other[3], rel_tol=1e-6)
        for one, other in zip(found, true, strict=True)
    )


def table() -> list[tuple[str, ...]]:
    """The rows of the page's table."""
    verdicts = json.loads(VERDICTS.read_text())
    return [
        (each["engine"], each["version"], *(each[name] for name in FORMATS)) for each in verdicts
    ]


def main(names: Iterable[str]) -> int:
    """Run all engines, or those named, and keep the verdicts; 1 if one reads a table wrong."""
    names = {*names}
    kept = {each["engine"]: each for each in json.loads(VERDICTS.read_text())}
    for engine in ENGINES:
        if names and engine.name not in names:
            continue
        with tempfile.TemporaryDirectory() as work, tables(Path(work)) as variables:
            kept[engine.name] = verdict(engine, Path(work), variables)
        print(kept[engine.name], flush=True)
        told = [kept[each.name] for each in ENGINES if each.name in kept]
        VERDICTS.write_text(json.dumps(told, indent=2) + "\n")
    return 0 if all(each[name] == "right" for each in kept.values() for name in FORMATS) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
