"""The score table as ledger: which images are done, and a compact set of their ids."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.identity import ModelIdentity
from pipeline.images import max_object_bytes
from pipeline.images.extras import Extra, MissingExtraError
from pipeline.output import ledger
from pipeline.output.ledger import (
    ID_TYPE,
    Before,
    Ids,
    IdSet,
    ids_from_hex,
    image_ids,
    read_final_ids,
)
from pipeline.schema import FINAL_ERRORS, SCORE_SCHEMA, ErrorCode, image_id
from pipeline.storage import StorageError, write_object
from tests.bucket import put

MODEL = "model-1"

# Few different bytes, so that ids repeat, share prefixes and end in zero bytes.
some_id = st.lists(st.sampled_from([0, 1, 9]), max_size=16).map(lambda x: bytes(x).ljust(16, b"\0"))
batches = st.lists(st.lists(some_id, max_size=30), max_size=12)


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of an output folder that does not exist yet."""
    if request.param == "local":
        return f"file://{tmp_path}/out put"
    return f"s3://{request.getfixturevalue('bucket')}/out put"


def array(ids: list[bytes]) -> Ids:
    return np.array(ids, dtype=ID_TYPE)


def hex_id(name: str) -> str:
    return hashlib.md5(name.encode()).hexdigest()


def write_scores(output: str, name: str, rows: list[dict[str, Any]]) -> None:
    """A score file; rows name their image and the columns that are not the usual ones."""
    full = [
        {"image_id": hex_id(row["image"]), "model": MODEL, "size": 1000, **without(row, "image")}
        for row in rows
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(full, schema=SCORE_SCHEMA), sink)
    write_object(f"{output}/scores/{name}", sink.getvalue().to_pybytes())


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


def final(output: str, names: list[str], max_megapixels: float = 100.0) -> set[str]:
    """Those of the named images that the ledger holds."""
    done = read_final_ids(output, ModelIdentity(MODEL), max_megapixels=max_megapixels)
    count = len(done)
    new = done.add_new(ids_from_hex(pa.array([hex_id(name) for name in names])))
    held = {name for name, is_new in zip(names, new, strict=True) if not is_new}
    assert len(held) == count, "the ledger holds an image that the test does not name"
    return held


@given(batches)
@settings(deadline=None, max_examples=50)
def test_id_set_agrees_with_a_set(given_batches: list[list[bytes]]) -> None:
    ids, reference = IdSet(), set[bytes]()
    for batch in given_batches:
        expected = []
        for value in batch:
            expected.append(value not in reference)
            reference.add(value)
        assert ids.add_new(array(batch)).tolist() == expected
        assert len(ids) == len(reference)


def test_runs_that_are_too_long_to_merge_are_searched_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "LONGEST_RUN", 100)
    random = np.random.default_rng(0)
    batches = [np.frombuffer(random.bytes(16 * 30), dtype=ID_TYPE) for _ in range(50)]
    ids = IdSet()
    assert all(ids.add_new(batch).all() for batch in batches)
    assert not any(ids.add_new(batch[::-1]).any() for batch in batches)
    assert len(ids) == 50 * 30


def test_id_set_tells_ids_apart_that_end_in_zero_bytes() -> None:
    values = [bytes(16), b"a" + bytes(15), b"a\0b" + bytes(13), b"a" * 15 + b"\0", b"a" * 16]
    ids = IdSet()
    assert ids.add_new(array(values)).all()
    assert len(ids) == len(values)
    assert not ids.add_new(array(values[::-1])).any()


def test_id_set_takes_at_most_20_bytes_an_id() -> None:
    batch, count = 50_000, 1_000_000
    random = np.random.default_rng(0)
    tracemalloc.start()
    try:
        ids = IdSet()
        for _ in range(count // batch):
            assert ids.add_new(np.frombuffer(random.bytes(16 * batch), dtype=ID_TYPE)).all()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(ids) == count
    assert held <= 20 * count


def test_ids_from_hex_are_the_raw_bytes() -> None:
    assert ids_from_hex(pa.array([hex_id("a"), "00" * 16])).tobytes() == (
        bytes.fromhex(hex_id("a")) + bytes(16)
    )


def test_ids_of_a_part_of_a_column_are_those_rows() -> None:
    column = pa.array([hex_id("a"), hex_id("b"), hex_id("c")])
    assert ids_from_hex(column[1:]).tobytes().hex() == hex_id("b") + hex_id("c")
    assert len(ids_from_hex(column[:0])) == 0


@pytest.mark.parametrize("value", ["0123", None, "g" * 32, "ab" * 17])
def test_what_is_no_id_is_refused(value: str | None) -> None:
    with pytest.raises(ValueError, match=r"hexadecimal"):
        ids_from_hex(pa.array([hex_id("a"), value], pa.string()))


@given(st.lists(st.tuples(st.text(), st.text(), st.none() | st.text()), min_size=1, max_size=20))
@settings(deadline=None, max_examples=50)
def test_many_ids_at_once_are_the_ids_one_by_one(rows: list[tuple[str, str, str | None]]) -> None:
    rows = [row for row in rows if encodable(row)] or [("s3://b/ü", "1", None)]
    uri, etag, category = (pa.array(column, pa.string()) for column in zip(*rows, strict=True))
    expected = [image_id(u, e, MODEL, c or "") for u, e, c in rows]
    assert image_ids(uri, etag, ModelIdentity(MODEL), category).tobytes() == b"".join(expected)
    identity = ModelIdentity(MODEL, {str(rows[0][2]): "1"})
    expected = [image_id(u, e, identity.of(c), c or "") for u, e, c in rows]
    assert image_ids(uri, etag, identity, category).tobytes() == b"".join(expected)


def encodable(row: tuple[str, str, str | None]) -> bool:
    try:
        return bool("".join(filter(None, row)).encode() or True)
    except UnicodeEncodeError:
        return False


def test_the_ledger_tells_how_images_ended(output: str) -> None:
    """A score beats an error, and a row of the run's own date one of another date."""
    night = [
        {"image": "scored"},
        {"image": "text", "error": "not_an_image"},
        {"image": "large", "error": "too_large", "width": 20_000, "height": 20_000},
        {"image": "mended", "error": "truncated"},
        {"image": "passing", "error": "fetch_failed"},
    ]
    write_scores(output, "scan_date=2025-01-01/a.parquet", night)
    retry = [{"image": "mended"}, {"image": "none", "error": "empty"}, {"image": "scored"}]
    write_scores(output, "scan_date=2025-01-02/a.parquet", retry)
    done = read_final_ids(
        output, ModelIdentity(MODEL), max_megapixels=100.0, scan_date="2025-01-02"
    )
    before = Before()
    names = ["scored", "text", "large", "mended", "none"]
    assert len(done) == len(names)
    before.add(done.kinds(ids_from_hex(pa.array(list(map(hex_id, names))))))
    assert before.errors == {"not_an_image": 1, "too_large": 1, "empty": 1}
    assert (before.of_date, before.errors_of_date) == (3, 1)


def test_a_new_output_holds_nothing(output: str) -> None:
    assert final(output, ["a"]) == set()


def test_a_bucket_that_does_not_exist_holds_nothing(s3: dict[str, str]) -> None:
    assert final("s3://missing-bucket/out", ["a"]) == set()


def test_all_score_files_are_read(output: str) -> None:
    names = [f"image {i}" for i in range(6)]
    for i, name in enumerate(names):
        write_scores(output, f"scan_date=2025-01-{i % 3 + 1:02}/{i}.parquet", [{"image": name}])
    assert final(output, [*names, "another"]) == set(names)
    write_scores(output, "scan_date=2025-02-01/later.parquet", [{"image": "another"}])
    assert final(output, [*names, "another"]) == {*names, "another"}


def test_rows_of_another_model_do_not_count(output: str) -> None:
    rows = [{"image": "mine"}, {"image": "other", "model": "model-2"}]
    write_scores(output, "scan_date=2025-01-01/a.parquet", rows)
    assert final(output, ["mine", "other"]) == {"mine"}


def test_rows_of_other_references_do_not_count_nor_take_memory(tmp_path: Path) -> None:
    """A file of before there were references, and two sets of one category."""
    output, with_references = str(tmp_path), ModelIdentity(MODEL, {"bolt": "1", "cap": "7"})
    before = [{"image": "b0", "category": "bolt"}, {"image": "n0", "category": "nut"}]
    write_scores(output, "scan_date=2025-01-01/a.parquet", [*before, {"image": "none"}])
    after = [
        {"image": f"b{i}", "category": "bolt", "model": f"{MODEL}+refs-{i}"} for i in (1, 2)
    ] + [{"image": "c7", "category": "cap", "model": f"{MODEL}+refs-7", "error": "empty"}]
    write_scores(output, "scan_date=2025-01-02/a.parquet", after)

    def held(identity: ModelIdentity) -> set[str]:
        done = read_final_ids(output, identity, max_megapixels=100.0)
        names = ["b0", "n0", "none", "b1", "b2", "c7"]
        count, new = len(done), done.add_new(ids_from_hex(pa.array(list(map(hex_id, names)))))
        found = {name for name, is_new in zip(names, new, strict=True) if not is_new}
        assert len(found) == count
        return found

    assert held(ModelIdentity(MODEL)) == {"b0", "n0", "none"}
    assert held(with_references) == {"n0", "none", "b1", "c7"}
    assert held(ModelIdentity(MODEL, {"bolt": "2"})) == {"n0", "none", "b2"}
    assert held(ModelIdentity(MODEL, {"bolt": "3"})) == {"n0", "none"}


@pytest.mark.parametrize("code", ErrorCode)
def test_only_errors_of_the_bytes_themselves_are_final(code: ErrorCode, tmp_path: Path) -> None:
    write_scores(str(tmp_path), "scan_date=2025-01-01/a.parquet", [{"image": "a", "error": code}])
    assert final(str(tmp_path), ["a"]) == ({"a"} if code in FINAL_ERRORS else set())


def test_an_error_that_passed_is_final_by_its_later_row(tmp_path: Path) -> None:
    write_scores(
        str(tmp_path), "scan_date=2025-01-01/a.parquet", [{"image": "a", "error": "fetch_failed"}]
    )
    write_scores(str(tmp_path), "scan_date=2025-01-02/a.parquet", [{"image": "a"}])
    assert final(str(tmp_path), ["a"]) == {"a"}


@pytest.mark.parametrize(
    ("columns", "limit", "is_final"),
    [
        ({"width": 2000, "height": 1000}, 1.9, True),
        ({"width": 2000, "height": 1000}, 2.0, False),
        ({"width": 100_000, "height": 100_000}, 9_999.0, True),  # more pixels than int32 holds
        ({"width": 100_000, "height": 100_000}, 10_000.0, False),
        ({"size": max_object_bytes(2.0) + 1}, 2.0, True),
        ({"size": max_object_bytes(2.0) + 1}, 2.1, False),
        ({"size": max_object_bytes(2.0) + 1, "width": 10, "height": 10}, 2.0, True),
        ({"size": None}, 2.0, False),
    ],
)
def test_too_large_is_final_while_the_limit_refuses_it(
    columns: dict[str, int], limit: float, is_final: bool, tmp_path: Path
) -> None:
    row = {"image": "a", "error": "too_large", **columns}
    write_scores(str(tmp_path), "scan_date=2025-01-01/a.parquet", [row])
    assert final(str(tmp_path), ["a"], limit) == ({"a"} if is_final else set())


@pytest.mark.parametrize("there", [[], ["dicom"], ["formats"], ["formats", "dicom"]])
def test_what_lacked_an_extra_is_tried_again_once_that_is_there(
    there: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "installed", lambda: there)
    needs: dict[str, tuple[Extra, ...]] = {"d": ("dicom",), "df": ("dicom", "formats")}
    rows: list[dict[str, Any]] = [
        {"image": name, "error": "unsupported_mode", "error_message": f"it needs {needed}; or not"}
        for name, needed in ((name, MissingExtraError(*each)) for name, each in needs.items())
    ]
    rows += [
        {"image": "heic", "error": "unsupported_mode", "error_message": "a HEIC image"},
        {"image": "old", "error": "unsupported_mode", "error_message": None},
        {"image": "cut", "error": "truncated", "error_message": rows[0]["error_message"]},
        {"image": "scored"},
    ]
    write_scores(str(tmp_path), "scan_date=2025-01-01/a.parquet", rows)
    names = [row["image"] for row in rows]
    again = {name for name, each in needs.items() if set(each) <= set(there)}
    assert final(str(tmp_path), names) == set(names) - again


def test_a_large_scored_image_stays_final_under_a_lower_limit(tmp_path: Path) -> None:
    row = {"image": "a", "width": 9000, "height": 9000}
    write_scores(str(tmp_path), "scan_date=2025-01-01/a.parquet", [row])
    assert final(str(tmp_path), ["a"], 1.0) == {"a"}


def test_what_is_no_score_file_is_passed_over(output: str) -> None:
    write_scores(output, "scan_date=2025-01-01/a.parquet", [{"image": "a"}])
    for name in ("notes.txt", "_SUCCESS", "scan_date=2025-01-01/.incomplete-0123abcd"):
        write_object(f"{output}/scores/{name}", b"cut short")
    assert final(output, ["a"]) == {"a"}


def test_folder_markers_of_s3_consoles_are_passed_over(bucket: str) -> None:
    write_scores(f"s3://{bucket}", "scan_date=2025-01-01/a.parquet", [{"image": "a"}])
    put(bucket, {"scores/": b"", "scores/scan_date=2025-01-01/": b""})
    assert final(f"s3://{bucket}", ["a"]) == {"a"}


def test_a_damaged_score_file_is_named(output: str) -> None:
    write_scores(output, "scan_date=2025-01-01/a.parquet", [{"image": "a"}])
    write_object(f"{output}/scores/scan_date=2025-01-01/bad.parquet", b"cut short")
    with pytest.raises(pa.ArrowInvalid, match=r"scan_date=2025-01-01/bad\.parquet"):
        read_final_ids(output, ModelIdentity(MODEL), max_megapixels=100.0)


def test_a_score_folder_that_cannot_be_listed_is_an_error_not_an_empty_ledger() -> None:
    with pytest.raises(StorageError, match="nosuch"):
        read_final_ids("nosuch://bucket", ModelIdentity(MODEL), max_megapixels=100.0)
