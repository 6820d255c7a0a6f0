"""What a night does to score files of earlier nights, and to published tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable

from pipeline.config import ScoreConfig, table_place
from pipeline.distributed import nightly
from pipeline.nightly.scans import Source
from pipeline.output.lock import LockLostError
from pipeline.publishing import publish
from pipeline.results import open_results
from pipeline.storage import list_objects
from tests.outputs import scored, write

from .nights import TODAY, night_of, objects, scans, three_bolts

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture
def config(golden_files: dict[str, str], bucket: str) -> ScoreConfig:
    return three_bolts(golden_files, bucket)


def table(config: ScoreConfig) -> pd.DataFrame:
    return pd.read_parquet(f"{config.output}/scores")


def fill(config: ScoreConfig, date: str, count: int = 12) -> None:
    """A night that committed often."""
    for i in range(count):
        write(config.output, [scored("s3://b/in", i, i / 100)], date, run_id=f"{i:02d}")


def score_files(config: ScoreConfig, date: str) -> list[str]:
    pages = list_objects(f"{config.output}/scores/scan_date={date}")
    return [info.uri for page in pages for info in page]


def test_a_night_makes_one_score_file_of_the_many_of_earlier_dates(config: ScoreConfig) -> None:
    fill(config, "2026-01-18")
    fill(config, TODAY)
    maps = objects(f"{config.output}/maps")
    columns = ["uri", "score", "map_file", "map_row"]  # the last two tell one night from another
    before = table(config)[columns].sort_values(columns, ignore_index=True)
    done = night_of(scans(config, a=Source(name="a", config=config)), TODAY)
    assert (done.failed, done.problems) == ([], ())
    assert len(score_files(config, "2026-01-18")) == 1
    assert len(score_files(config, TODAY)) >= 12, "today's are still being written"
    assert objects(f"{config.output}/maps") >= maps, "no map has moved: nothing to vacuum"
    after = table(config)
    kept = after[after.run_id.str.len() == 2][columns].sort_values(columns, ignore_index=True)
    pd.testing.assert_frame_equal(kept, before)


@pytest.mark.parametrize(("files", "wanted"), [(4, True), (12, False)])
def test_few_files_and_sources_that_say_so_are_left_alone(
    files: int, wanted: bool, config: ScoreConfig
) -> None:
    fill(config, "2026-01-18", files)
    source = Source(name="a", config=config, compact=wanted)
    assert night_of(scans(config, a=source), TODAY).problems == ()
    assert len(score_files(config, "2026-01-18")) == files


def test_a_night_publishes_and_a_table_that_can_not_be_is_a_problem_and_no_failure(
    config: ScoreConfig, bucket: str, tmp_path: Path
) -> None:
    fill(config, "2026-01-18")
    (tmp_path / "file").write_bytes(b"")
    places = (table_place(f"delta://{tmp_path}/file/x"), table_place(f"delta://{tmp_path}/table"))
    source = Source(name="a", config=config, publish=places)
    done = night_of(scans(config, a=source), TODAY)
    assert done.failed == []
    (problem,) = done.problems
    assert problem.startswith(f"a is not published: delta://{tmp_path}/file/x: ")
    found = DeltaTable(f"{tmp_path}/table").to_pyarrow_table().to_pandas()
    assert sorted(found.image_id) == sorted(open_results(config.output).scores().image_id)
    assert publish(config.output, places[1]).files == 0, "also after the night's compaction"


def test_an_output_that_can_not_be_compacted_is_a_problem_and_no_failure(
    config: ScoreConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(config, "2026-01-18")

    def refuse(*_: object, **__: object) -> None:
        raise LockLostError("the lock was taken over")

    monkeypatch.setattr(nightly, "compact", refuse)
    done = night_of(scans(config, a=Source(name="a", config=config)), TODAY)
    assert done.failed == []
    assert done.problems == ("a is not compacted: the lock was taken over",)
