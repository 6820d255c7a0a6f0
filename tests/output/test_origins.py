"""A compacted file says whose rows it repeats, also of files that are gone."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.output.compaction import compact
from pipeline.output.origins import Origins, is_repeated, origins_in
from pipeline.output.snapshot import score_files
from tests.outputs import scored, write

DAY = "2026-01-01"


def origins(output: str) -> dict[str, Origins]:
    """Of each score file, by name."""
    found = {}
    for uri in score_files(f"{output}/scores"):
        schema = pq.read_schema(uri.removeprefix("file://"))
        found[uri.removeprefix(f"file://{output}/scores/")] = origins_in(schema)
    return found


def night(output: str, run: int) -> str:
    """A score file; returns its name."""
    write(output, [scored("s3://b/in", run, 0.5)], DAY, run_id=f"run-{run}")
    return f"scan_date={DAY}/run-{run}-00000.parquet"


def test_a_file_of_a_run_repeats_none(tmp_path: Path) -> None:
    assert origins(str(tmp_path)) == {}
    assert origins_in(pq.read_schema(tmp_path / "scores" / night(str(tmp_path), 0))) == {}


def test_compaction_names_what_it_merged_again_and_again(tmp_path: Path) -> None:
    output = str(tmp_path)
    first, second = night(output, 0), night(output, 1)
    compact(output, before="2026-02-01", maps=False)
    ((once, found),) = origins(output).items()
    assert found == {first: {}, second: {}}
    third = night(output, 2)
    compact(output, before="2026-02-01", maps=False)
    ((_, found),) = origins(output).items()
    assert found == {once: {first: {}, second: {}}, third: {}}
    assert is_repeated(found, {once, third})
    assert is_repeated(found, {first, second, third})
    assert not is_repeated(found, {first, third})
    assert not is_repeated(found, {once})
    assert not is_repeated({}, {once})


def test_rows_that_point_to_other_maps_are_no_repetition(tmp_path: Path) -> None:
    output = str(tmp_path)
    night(output, 0)
    night(output, 1)
    compact(output, before="2026-02-01", maps=False)
    night(output, 2)
    compact(output, before="2026-02-01", maps=True)
    assert list(origins(output).values()) == [{}]


@pytest.mark.parametrize("maps", [True, False])
def test_a_compaction_without_maps_after_one_with_them_names_that(
    tmp_path: Path, maps: bool
) -> None:
    output = str(tmp_path)
    night(output, 0)
    night(output, 1)
    compact(output, before="2026-02-01", maps=maps)
    (between,) = origins(output)
    night(output, 2)
    compact(output, before="2026-02-01", maps=False)
    (found,) = origins(output).values()
    assert is_repeated(found, {between, f"scan_date={DAY}/run-2-00000.parquet"})
    named = {f"scan_date={DAY}/run-{run}-00000.parquet" for run in range(3)}
    assert is_repeated(found, named) is not maps
