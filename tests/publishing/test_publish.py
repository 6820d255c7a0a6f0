"""A published table is what counts of the output, whatever happened to that since."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.schema import Field, PrimitiveType
from pyiceberg.types import StringType

from pipeline.config import DeltaPlace, Place, table_place
from pipeline.errors import CannotRunError
from pipeline.identity import ModelIdentity
from pipeline.output.compaction import compact
from pipeline.output.vacuum import vacuum
from pipeline.publishing import PublishingError, publish
from pipeline.publishing.delta import DeltaLake
from pipeline.publishing.iceberg import Iceberg
from pipeline.publishing.table import OUTPUT, SCHEMA, Change, Table
from pipeline.results import open_results
from pipeline.schema import SCORE_SCHEMA
from pipeline.storage import arrow_filesystem, list_objects, write_object
from tests.outputs import write

from .nights import FOLDER, Rows, counts, images, night, replaced
from .tables import arrow, check, delta, iceberg, is_there, rows, version


def test_the_first_publication_has_the_rows_that_count(output: str, place: Place) -> None:
    night(output, 1, [*images(0, 1, 2), *images(3, score=None)])
    night(output, 2, images(1, 4, score=0.75))
    assert counts(publish(output, place)) == (2, 5, 0)
    found = check(output, place)
    assert found.score.tolist()[:3] == [0.5, 0.75, 0.5]
    assert set(found.scan_date) == {"2026-01-01", "2026-01-02"}
    assert found.error.dropna().tolist() == ["truncated"]


def test_every_reader_opens_its_columns(output: str, place: Place) -> None:
    """None of them a dictionary, half precision, or a time of another unit or zone."""
    night(output, 1, images(0))
    publish(output, place)
    assert arrow(place).schema.names == [*SCORE_SCHEMA.names, "scan_date"]
    kinds = {pa.string(), pa.float32(), pa.int32(), pa.int64(), pa.timestamp("us", tz="UTC")}
    assert set(arrow(place).schema.types) == kinds
    if isinstance(place, DeltaPlace):
        table = delta(place)
        assert table.metadata().configuration == {OUTPUT: output}
        assert table.metadata().partition_columns == ["scan_date"]
        assert table.schema().fields[0].metadata["comment"].startswith("128-bit hash")
    else:
        opened = iceberg(place)
        assert opened.properties[OUTPUT] == output
        assert [field.name for field in opened.spec().fields] == ["scan_date"]
        doc = opened.schema().find_field("image_id").doc
        assert doc is not None
        assert doc.startswith("128-bit hash")


def test_published_twice_is_published_once(output: str, place: Place) -> None:
    night(output, 1, images(0, 1))
    publish(output, place)
    before = version(place)
    assert counts(publish(output, place)) == (0, 0, 0)
    assert version(place) == before
    check(output, place)


def test_nights_come_one_by_one(output: str, place: Place) -> None:
    for day in range(1, 4):
        night(output, day, images(2 * day, 2 * day + 1))
        assert counts(publish(output, place)) == (1, 2, 0)
        check(output, place)


@pytest.mark.parametrize(
    ("then", "kept"),
    [
        pytest.param(images(1, score=0.9), 2, id="rescored"),
        pytest.param(replaced(images(1, score=0.9)), 2, id="replaced"),
        pytest.param(replaced(images(1, score=None)), 2, id="replaced by a damaged one"),
    ],
)
def test_a_new_row_takes_the_place_of_the_old_one(
    output: str, place: Place, then: Rows, kept: int
) -> None:
    night(output, 1, images(0, 1))
    publish(output, place)
    night(output, 2, then)
    assert counts(publish(output, place)) == (1, 1, 1)
    found = check(output, place)
    assert len(found) == kept
    assert found.scan_date.tolist() == ["2026-01-01", "2026-01-02"]


def test_an_error_that_passed_is_gone(output: str, place: Place) -> None:
    passing = images(0, score=None)[0] | {"error": "fetch_failed"}
    night(output, 1, [passing, *images(1)])
    publish(output, place)
    assert check(output, place).error.dropna().tolist() == ["fetch_failed"]
    night(output, 2, images(0))
    assert counts(publish(output, place)) == (1, 1, 1)
    assert check(output, place).error.isna().all()


def test_an_error_that_may_pass_hides_no_score(output: str, place: Place) -> None:
    night(output, 1, images(0))
    publish(output, place)
    night(output, 2, [images(0, score=None)[0] | {"error": "fetch_failed"}])
    assert counts(publish(output, place)) == (1, 0, 0)
    check(output, place)
    night(output, 3, images(1))
    assert publish(output, place).added == 1
    check(output, place)


def test_rows_of_another_model_stand_beside(output: str, place: Place) -> None:
    night(output, 1, images(0, 1))
    publish(output, place)
    night(output, 2, images(0, 1), model="n")
    assert counts(publish(output, place)) == (1, 2, 0)
    assert rows(place).model.value_counts().to_dict() == {"m": 2, "n": 2}


def test_what_an_error_hid_comes_back_when_the_error_ends(output: str, place: Place) -> None:
    """The table never had the rows that tell; they are read from the output again."""
    night(output, 1, images(0))
    night(output, 2, replaced(images(0, score=None)))
    publish(output, place)
    assert check(output, place).error.tolist() == ["truncated"]
    other = replaced(images(0))[0] | {"category": "washer", "image_id": "e" * 32}
    night(output, 3, [other])
    publish(output, place)
    found = check(output, place)
    assert found.category.tolist() == ["nut", "washer"]
    assert found.scan_date.tolist() == ["2026-01-01", "2026-01-03"]


def test_after_a_nights_compaction_nothing_is_read_again(output: str, place: Place) -> None:
    for run in range(3):
        night(output, 1, images(2 * run, 2 * run + 1), run=run)
    publish(output, place)
    before = version(place)
    assert compact(output, before="2026-02-01", maps=False).files_after == 1
    assert counts(publish(output, place)) == (0, 0, 0)
    assert version(place) == before
    night(output, 1, images(7), run=7)
    assert compact(output, before="2026-02-01", maps=False).files_before == 2, "of one, again"
    assert counts(publish(output, place)) == (1, 8 - 1, 6), "one row of the file is new"
    check(output, place)
    night(output, 2, images(8))
    assert counts(publish(output, place)) == (1, 1, 0)
    check(output, place)


def test_after_compactions_of_compactions_nothing_is_read_again(output: str, place: Place) -> None:
    for run in range(3):
        night(output, 1, images(2 * run, 2 * run + 1), run=run)
    publish(output, place)
    for run in range(3, 5):
        compact(output, before="2026-02-01", maps=False)
        night(output, 1, images(2 * run), run=run)
        publish(output, place)
    compact(output, before="2026-02-01", maps=False)
    assert counts(publish(output, place)) == (0, 0, 0)
    check(output, place)


def test_after_a_compaction_with_maps_rows_point_to_the_new_ones(output: str, place: Place) -> None:
    for run in range(3):
        night(output, 1, images(2 * run, 2 * run + 1), run=run)
    night(output, 3, images(9))
    publish(output, place)
    compact(output, before="2026-01-02")
    assert counts(publish(output, place)) == (1, 6, 6)
    found = check(output, place)
    assert vacuum(output, grace=timedelta(0), keep=timedelta(days=90))
    for _, row in found.iterrows():
        assert open_results(output).map(row, size=8).shape == (8, 8)


def open_table(place: Place) -> Table:
    return DeltaLake(place) if isinstance(place, DeltaPlace) else Iceberg(place)


def change(output: str, made: pa.Table, published: str = "x") -> Change:
    none = made.slice(0, 0)
    return Change(
        output=output,
        published=published,
        rows=lambda: iter([made]),
        superseded=none,
        schema=made.schema,
    )


def test_a_table_of_an_older_version_gets_the_columns_that_it_lacks(
    output: str, place: Place
) -> None:
    night(output, 1, images(0, 1))
    fewer = pa.schema([each for each in SCHEMA if each.name not in ("frames", "score_logit")])
    open_table(place).commit(change(output, fewer.empty_table(), published=""))
    assert "frames" not in arrow(place).schema.names
    publish(output, place)
    check(output, place)
    assert set(arrow(place).schema.names) == set(SCHEMA.names)


def test_columns_come_also_where_rows_go(output: str, place: Place) -> None:
    night(output, 1, images(0, 1))
    fewer = pa.schema([each for each in SCHEMA if each.name != "frames"])
    publish(output, place)
    old = arrow(place).select(fewer.names).cast(fewer)
    other = table_place(f"{place.uri}2")
    open_table(other).commit(change(output, old))
    night(output, 2, images(1, score=0.9))
    done = publish(output, other)
    assert (done.added, done.removed) == (2, 2), "what was published had another name"
    found = rows(other)
    assert found.frames.isna().all()
    assert found.score.tolist() == [0.5, pytest.approx(0.9)]


def test_a_column_of_somebody_else_stays(output: str, place: Place) -> None:
    night(output, 1, images(0, 1))
    publish(output, place)
    if isinstance(place, DeltaPlace):
        delta(place).alter.add_columns([Field("inspector", PrimitiveType("string"))])
    else:
        with iceberg(place).update_schema() as schema:
            schema.add_column("inspector", StringType())
    night(output, 2, images(1, 2))
    publish(output, place)
    found = rows(place)
    assert found.inspector.isna().all()
    assert found.uri.tolist() == [f"{FOLDER}/{i}.jpg" for i in range(3)]


def test_files_of_a_newer_version_are_not_published_in_part(output: str, place: Place) -> None:
    night(output, 1, images(0))
    (uri,) = [info.uri for page in list_objects(f"{output}/scores") for info in page]
    filesystem, path = arrow_filesystem(uri)
    table = pq.ParquetFile(path, filesystem=filesystem).read()
    sink = pa.BufferOutputStream()
    pq.write_table(table.append_column("sharpness", pa.array([0.5])), sink)
    write_object(uri, sink.getvalue().to_pybytes())
    with pytest.raises(PublishingError, match=r"unknown to this version.*: sharpness"):
        publish(output, place)
    assert not is_there(place)


def test_a_table_is_of_one_output(output: str, place: Place) -> None:
    night(output, 1, images(0))
    publish(output, place)
    night(f"{output}-2", 1, images(5))
    with pytest.raises(CannotRunError, match=f"holds the scores of {output}; give every output"):
        publish(f"{output}-2", place)
    check(output, place)


def test_somebody_elses_table_is_left_alone(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "sales"), pa.table({"item": ["a"]}))
    night(str(tmp_path / "out"), 1, images(0))
    with pytest.raises(CannotRunError, match="holds something else than scores"):
        publish(str(tmp_path / "out"), table_place(f"delta://{tmp_path}/sales"))
    assert DeltaTable(str(tmp_path / "sales")).version() == 0


def test_of_two_publications_at_once_one_fails_and_no_row_is_doubled(
    output: str, place: Place
) -> None:
    night(output, 1, images(0))
    publish(output, place)
    first, second = open_table(place), open_table(place)
    made = arrow(place).cast(SCHEMA)
    first.commit(change(output, made.set_column(0, SCHEMA.field(0), pa.array(["a"])), "x y"))
    with pytest.raises(Exception, match=r"[Cc]oncurrent|branch main has changed"):
        second.commit(change(output, made.set_column(0, SCHEMA.field(0), pa.array(["a"])), "x y"))
    assert sorted(rows(place).image_id) == ["0" * 32, "a"]


def test_an_output_without_scores_makes_no_table(output: str, place: Place) -> None:
    assert counts(publish(output, place)) == (0, 0, 0)
    assert not is_there(place)


def test_references_are_part_of_the_model(output: str, place: Place) -> None:
    """Other references give other rows; an error of before ends with them."""
    write(output, [*images(0, 2), *images(4, score=None)], "2026-01-01", "m", run_id="1")
    publish(output, place)
    made = [*images(0, 2, score=0.9), *images(4, score=None)]
    identity = ModelIdentity("m", {"nut": "1a"})
    made = [each | {"image_id": f"e{str(each['image_id'])[1:]}"} for each in made]
    write(output, made, "2026-01-02", "m", run_id="2", references=dict(identity.references))
    publish(output, place)
    found = check(output, place)
    assert found.model.value_counts().to_dict() == {"m+refs-1a": 3, "m": 2}


def test_the_upkeep_of_others_changes_nothing(output: str, place: Place) -> None:
    """Files made one, old snapshots dropped."""
    for run in range(3):
        night(output, 1, images(run), run=run)
        publish(output, place)
    if isinstance(place, DeltaPlace):
        delta(place).optimize.compact()
        delta(place).create_checkpoint()
    else:
        table = iceberg(place)
        snapshots = [each.snapshot_id for each in table.snapshots()[:-1]]
        table.maintenance.expire_snapshots().by_ids(snapshots).commit()
    assert counts(publish(output, place)) == (0, 0, 0)
    night(output, 2, images(1, score=0.9))
    assert counts(publish(output, place)) == (1, 1, 1)
    check(output, place)


def test_a_delta_log_that_forgot_the_last_publication_costs_a_full_one(
    output: str, tmp_path: Path
) -> None:
    """Commits older than a checkpoint are removed after 30 days."""
    place = table_place(f"delta://{tmp_path}/table")
    for day in (1, 2):
        night(output, day, images(day))
    publish(output, place)
    delta(place).optimize.compact()
    delta(place).alter.set_table_description("by somebody else")
    delta(place).create_checkpoint()
    for number in range(delta(place).version()):
        (tmp_path / f"table/_delta_log/{number:020}.json").unlink()
    assert counts(publish(output, place)) == (2, 2, 2)
    check(output, place)
    assert counts(publish(output, place)) == (0, 0, 0)
