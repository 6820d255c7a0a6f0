"""Publications over S3: what is read, and what is left when one is killed at any of its writes."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import DeltaPlace, Place
from pipeline.output.compaction import compact
from pipeline.publishing import publish

from .nights import counts, images, night, replaced
from .stalling import stalling
from .tables import arrow, check, is_there, version

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# Children of one that has imported everything: else each would take seconds to begin.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([f"pipeline.publishing.{each}" for each in ("delta", "iceberg")])


@pytest.mark.parametrize("server", ["bucket", "seaweedfs_bucket"])
def test_nights_are_published(
    request: pytest.FixtureRequest, make_place: Callable[[str], Place], server: str
) -> None:
    root = f"s3://{request.getfixturevalue(server)}"
    output, place = f"{root}/out", make_place(root)
    night(output, 1, [*images(0, 1, 2), *images(3, score=None)])
    assert counts(publish(output, place)) == (1, 4, 0)
    check(output, place)
    night(output, 2, [*replaced(images(1, score=0.75)), *images(4)])
    assert counts(publish(output, place)) == (1, 2, 1)
    assert counts(publish(output, place)) == (0, 0, 0)
    check(output, place)
    compact(output, before="2026-01-02")
    night(output, 2, images(5), run=1)
    publish(output, place)
    check(output, place)


def read(requests: list[str], where: str) -> set[str]:
    """Paths of the Parquet files, with that in their path, that were read."""
    paths = [each.split("?")[0] for each in requests if each.startswith("GET ") and where in each]
    return {path for path in paths if path.endswith(".parquet")}


def start(output: str, place: Place, endpoint: str) -> subprocess.Popen[str]:
    """A publication in a process of its own."""
    command = [sys.executable, "-m", "jobs.maintain", "publish", "--output", output]
    return subprocess.Popen(
        [*command, "--to", place.uri],
        cwd=ROOT,
        env=os.environ | {"AWS_ENDPOINT_URL": endpoint},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_night_reads_its_own_files_and_those_that_it_changes(
    bucket: str, s3: dict[str, str], make_place: Callable[[str], Place]
) -> None:
    root = f"s3://{bucket}"
    output, place = f"{root}/out", make_place(root)
    table = "/tables/" if isinstance(place, DeltaPlace) else "/data/"
    for day in range(1, 5):
        night(output, day, images(*range(10 * day, 10 * day + 4)))
    publish(output, place)

    def published(told: str) -> list[str]:
        with stalling(s3["AWS_ENDPOINT_URL"]) as (endpoint, server):
            process = start(output, place, endpoint)
            assert process.communicate()[0] == f"{place.uri}: {told} score files that are new\n"
            return server.requests

    night(output, 5, images(50, 51))
    requests = published("2 rows came and 0 went, by 1")
    assert [each[-27:] for each in read(requests, "/out/")] == ["105T000000Z-x-00000.parquet"]
    assert read(requests, table) == set(), "no image's name lies between those of any file"
    assert read(published("0 rows came and 0 went, by 0"), "/") == set()
    night(output, 6, [*images(21, score=0.9), *images(60)])
    requests = published("2 rows came and 1 went, by 1")
    assert [each[-27:] for each in read(requests, "/out/")] == ["106T000000Z-x-00000.parquet"]
    dates = {path.split("scan_date=")[1][:10] for path in read(requests, table)}
    assert dates == {"2026-01-02"}
    check(output, place)


def publish_in(environment: dict[str, str], output: str, place: Place) -> None:
    os.environ.update(environment)
    publish(output, place)


def killed(output: str, place: Place, endpoint: str, after: int) -> bool:
    """Whether a publication was killed at a write; it came to its end otherwise."""
    with stalling(endpoint, after) as (own, server):
        environment = os.environ | {"AWS_ENDPOINT_URL": own}
        process = PROCESSES.Process(target=publish_in, args=(environment, output, place))
        process.start()
        while process.is_alive() and not server.held.wait(0.05):
            pass
        process.kill()
        process.join()
        assert server.held.is_set() or process.exitcode == 0
        return server.held.is_set()


def test_killed_at_any_write_the_table_is_as_before_and_the_next_makes_it_right(
    bucket: str, s3: dict[str, str], make_place: Callable[[str], Place]
) -> None:
    """The first publication of a table, and one by which rows come and go."""
    root = f"s3://{bucket}"
    output, place, endpoint = f"{root}/out", make_place(root), s3["AWS_ENDPOINT_URL"]
    night(output, 1, images(0, 1, 2))
    steps = 0
    while killed(output, place, endpoint, steps):
        assert not is_there(place) or not len(arrow(place))
        steps += 1
    assert steps >= 2, "the empty table, and its data"
    check(output, place)
    night(output, 2, [*images(1, score=0.9), *images(3)])
    before, steps = version(place), 0
    while killed(output, place, endpoint, steps):
        assert version(place) == before
        steps += 1
    assert steps >= 3, "data without the row, new data, the commit"
    assert version(place) != before
    check(output, place)
    assert counts(publish(output, place)) == (0, 0, 0)
