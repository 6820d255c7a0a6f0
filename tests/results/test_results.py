"""Opening an output: rows, maps and overlays are those that the job wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.docs.dicom_files import dicom
from pipeline.anomaly_map import render
from pipeline.identity import ModelIdentity
from pipeline.images import dicom as images_dicom
from pipeline.output.compaction import compact
from pipeline.results import Results, open_results
from pipeline.storage import stat
from tests.bucket import jpeg
from tests.outputs import age, grid, scored, write

NUM_IMAGES = 300  # more than a row group of a map shard


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Two nights: 300 images and a broken one, then one image more."""
    folder = tmp_path_factory.mktemp("results")
    for i in range(3):
        (folder / f"{i}.jpg").write_bytes(jpeg(i))
    rows = [scored(f"file://{folder}", i, i / NUM_IMAGES) for i in range(NUM_IMAGES)]
    write(f"{folder}/out", [scored(f"file://{folder}", 999, None), *rows], "2026-01-01")
    write(f"{folder}/out", [scored(f"file://{folder}", 500, 0.5)], "2026-01-02")
    return open_results(str(folder / "out"))


def test_scores_come_most_anomalous_first_and_errors_last(results: Results) -> None:
    frame = results.scores()
    assert len(frame) == NUM_IMAGES + 2
    assert frame.score.dropna().is_monotonic_decreasing
    assert frame.error.iloc[-1] == "truncated"
    assert "object" not in {str(dtype) for dtype in frame.dtypes}


def test_filters_select_rows_and_columns(results: Results) -> None:
    assert list(results.scores(scan_date="2026-01-02").score) == [0.5]
    assert set(results.scores(category="nut").category) == {"nut"}
    frame = results.scores(min_score=0.9, columns=["uri", "score"])
    assert list(frame.columns) == ["uri", "score"]
    assert (frame.score >= np.float32(0.9)).all()
    assert len(results.scores(scan_date="1999-01-01")) == 0


def test_a_partition_that_is_not_asked_for_is_not_read(results: Results, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(str(folder), [scored(f"file://{tmp_path}", 0, 0.5)], "2026-01-02")
    damaged = folder / "scores" / "scan_date=2026-01-01" / "x.parquet"
    damaged.parent.mkdir()
    damaged.write_bytes(b"not Parquet")
    assert len(open_results(str(folder)).scores(scan_date="2026-01-02")) == 1


def test_the_latest_row_of_an_object_is_its_only_one_for_a_model(tmp_path: Path) -> None:
    write(str(tmp_path), [scored(f"file://{tmp_path}", 0, None)], "2026-01-01")
    write(str(tmp_path), [scored(f"file://{tmp_path}", 0, 0.7)], "2026-01-02")
    write(str(tmp_path), [scored(f"file://{tmp_path}", 0, 0.9)], "2026-01-03", model="other")
    results = open_results(str(tmp_path))
    assert list(results.scores().score) == [np.float32(0.9), np.float32(0.7)]
    assert len(results.scores(latest=False)) == 3


@pytest.mark.parametrize("i", [0, 1, 127, 128, 129, NUM_IMAGES - 1])
def test_a_map_is_the_rows_own_at_any_size(results: Results, i: int) -> None:
    row = results.scores().set_index("image_id").loc[f"{i:032x}"]
    np.testing.assert_array_equal(results.map(row), render(grid(i), (64, 96)))
    np.testing.assert_array_equal(results.map(row, size=30, sigma=2), render(grid(i), 30, 2))


def test_a_row_without_a_map_says_why(results: Results) -> None:
    with pytest.raises(ValueError, match=r"has no map \(error: truncated"):
        results.map(results.scores().iloc[-1])


def test_rows_that_lack_columns_say_which_to_ask_for(results: Results) -> None:
    frame = results.scores(min_score=0.9, columns=["uri", "map_file"])
    row = frame.iloc[0]
    remedy = r"ask scores\(\) for columns=\['etag', .*'map_row'\] too"
    with pytest.raises(ValueError, match=f"no etag, width, height, model, box_x0, .*; {remedy}"):
        results.overlay(row)
    with pytest.raises(ValueError, match="no map_row, width, height; "):
        results.map(row)
    with pytest.raises(ValueError, match="no category, model, map_row; "):
        results.similar(row)
    for rows in (frame, row):
        with pytest.raises(ValueError, match=r"no image_id, category, score, width, .*, model; "):
            results.to_masks(0.5, rows)


def test_a_few_columns_suffice_for_a_map(results: Results) -> None:
    narrow = results.scores(columns=("score", "map_file", "map_row"))
    assert results.map(narrow.iloc[0], size=8).shape == (8, 8)
    with pytest.raises(ValueError, match="the row has no map"):
        results.map(narrow.iloc[-1], size=8)


def test_a_map_file_outside_the_output_is_refused(results: Results) -> None:
    row = results.scores().iloc[0].copy()
    row["map_file"] = "maps/../../secret.parquet"
    with pytest.raises(ValueError, match="not a shard of this output"):
        results.map(row)


def test_an_overlay_is_the_image_with_its_box(results: Results) -> None:
    row = results.scores().set_index("image_id").loc[f"{1:032x}"].copy()
    row["etag"] = stat(row["uri"]).etag
    overlay = results.overlay(row, size=48, caption=False)
    assert (overlay.mode, overlay.size) == ("RGB", (48, 32))
    assert overlay.getpixel((5, 5)) == (255, 255, 255)
    assert overlay.getpixel((10, 10)) != (255, 255, 255)


def test_an_overlay_carries_its_score_its_name_and_the_colours_of_its_map(
    tmp_path: Path,
) -> None:
    """Saved pictures told nothing of which image it is, nor how abnormal red is."""
    names = ("a.jpg", "b.jpg", "\n" + "long " * 40 + ".jpg")
    for name in names:
        (tmp_path / name).write_bytes(jpeg(0))
    rows = [
        scored("s3://b/in", i, i / 10) | {"uri": uri, "etag": stat(uri).etag}
        for i, uri in enumerate(f"file://{tmp_path}/{name}" for name in names)
    ]
    write(f"{tmp_path}/out", rows, "2026-01-01")
    results = open_results(f"{tmp_path}/out")
    frame = results.scores().sort_values("score")
    plain = results.overlay(frame.iloc[0], caption=False)
    pictures = [results.overlay(row) for _, row in frame.iterrows()]
    for picture in pictures:
        assert (picture.mode, picture.size) == ("RGB", (160, plain.height + 44))
    assert pictures[0].crop((0, 0, *plain.size)).tobytes() == plain.tobytes()
    strips = [each.crop((0, plain.height, *each.size)).tobytes() for each in pictures]
    assert len({*strips}) == 3, "names and scores"
    strip = np.asarray(pictures[0])[plain.height :].astype(int)
    coloured = np.ptp(strip, axis=2) > 25
    assert coloured.any(axis=0).sum() > 20, "the scale"
    weak = np.asarray(results.overlay(frame.iloc[0], opacity=0.1))[plain.height :].astype(int)
    assert not (np.ptp(weak, axis=2) > 25).any(), "as pale as the map's colours"
    unscored = results.overlay(frame.iloc[0].drop("score"))
    assert unscored.size == pictures[0].size


def test_a_frame_in_the_place_of_a_row_ended_in_an_ambiguous_truth_value(results: Results) -> None:
    frame = results.scores()
    ask: tuple[Callable[[Any], object], ...] = (results.map, results.overlay, results.similar)
    for method in ask:
        with pytest.raises(TypeError, match=r"one row .* frame.iloc\[0\], not a frame of 302"):
            method(frame)
        with pytest.raises(TypeError, match=r"frame.iloc\[0\], not int"):
            method(0)
        with pytest.raises(TypeError, match=r"frame.iloc\[0\], not Pandas"):
            method(next(frame.itertuples()))
    assert results.map(dict(frame.iloc[0])).shape == (64, 96)


def test_an_output_without_scores_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_results(str(tmp_path / "nothing")).scores()


def test_plain_pandas_reads_the_same_table(results: Results) -> None:
    folder = results.uri.removeprefix("file://")
    frame = pd.read_parquet(f"{folder}/scores", filters=[("scan_date", "=", "2026-01-02")])
    assert list(frame.score) == [0.5]


def test_a_high_score_that_a_newer_row_replaced_does_not_come_back(tmp_path: Path) -> None:
    write(str(tmp_path), [scored(f"file://{tmp_path}", 0, 0.9)], "2026-01-01")
    write(str(tmp_path), [scored(f"file://{tmp_path}", 0, 0.1)], "2026-01-02")
    assert len(open_results(str(tmp_path)).scores(min_score=0.5)) == 0


def test_one_image_under_two_categories_has_two_rows(tmp_path: Path) -> None:
    row = scored(f"file://{tmp_path}", 0, 0.9)
    failed = {**scored(f"file://{tmp_path}", 0, None), "category": None, "error": "no_category"}
    write(str(tmp_path), [failed], "2026-01-01")
    write(str(tmp_path), [row, {**row, "category": "cable"}], "2026-01-02")
    frame = open_results(str(tmp_path)).scores()
    assert sorted(frame.category) == ["cable", "nut"]


def test_an_overlay_of_what_an_extra_reads_is_decoded_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0.jpg").write_bytes(dicom(np.full((64, 96), 77, np.uint8), 8))
    row = scored(f"file://{tmp_path}", 0, 0.9)
    write(str(tmp_path), [row | {"etag": stat(str(row["uri"])).etag}], "2026-01-01")
    results = open_results(str(tmp_path))
    monkeypatch.setattr(images_dicom, "read", lambda *_: pytest.fail("decoded in this process"))
    overlay = results.overlay(results.scores().iloc[0], opacity=0.0, caption=False)
    assert overlay.size == (96, 64)
    assert overlay.getpixel((90, 60)) == (77, 77, 77)


def test_an_image_that_was_replaced_gets_no_overlay_of_the_old_map(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    write(str(tmp_path), [scored(f"file://{tmp_path}", 0, 0.9)], "2026-01-01")
    results = open_results(str(tmp_path))
    with pytest.raises(ValueError, match="was replaced after it was scored"):
        results.overlay(results.scores().iloc[0])


def test_a_rescore_that_failed_for_now_does_not_take_a_score_away(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    again = scored("s3://b/in", 0, None) | {"error": "fetch_failed"}
    write(out, [scored("s3://b/in", i, 0.5) for i in range(2)], "2026-01-01")
    write(out, [again, scored("s3://b/in", 1, 0.7)], "2026-01-02")
    frame = open_results(out).scores().sort_values("uri")
    assert list(frame.score) == [0.5, np.float32(0.7)]
    assert frame.error.isna().all()


def test_a_changed_image_that_failed_for_now_shows_as_failed(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    changed = scored("s3://b/in", 0, None) | {"error": "fetch_failed", "image_id": "f" * 32}
    write(out, [scored("s3://b/in", 0, 0.5)], "2026-01-01")
    write(out, [changed], "2026-01-02")
    assert list(open_results(out).scores().error) == ["fetch_failed"]


def test_maps_of_an_older_version_open(tmp_path: Path) -> None:
    """Beside those of today, and after a compaction, which makes them so."""
    output = str(tmp_path)
    write(output, [scored("s3://b/in", i, 0.5) for i in range(3)], "2026-01-01")
    age(output)
    write(output, [scored("s3://b/in", i, 0.5) for i in range(3, 6)], "2026-01-01", run_id="new")
    for _ in range(2):
        results = open_results(output)
        for _, row in results.scores().iterrows():
            expected = render(grid(int(row.image_id, 16)), 20)
            np.testing.assert_array_equal(results.map(row, size=20), expected)
        compact(f"file://{output}", before="2026-02-01")
    assert len(open_results(output).scores().map_file.unique()) == 1


def test_columns_of_a_newer_version_are_passed_over(tmp_path: Path) -> None:
    write(str(tmp_path), [scored("s3://b/in", 1, 0.5)], "2026-01-01")
    [path] = tmp_path.glob("scores/*/*.parquet")
    newer = pq.ParquetFile(path).read()
    pq.write_table(newer.append_column("mood", pa.array(["good"])), path)
    write(str(tmp_path), [scored("s3://b/in", 2, 0.4)], "2026-01-01", run_id="older")
    rows = open_results(str(tmp_path)).scores()
    assert rows.uri.tolist() == ["s3://b/in/1.jpg", "s3://b/in/2.jpg"]
    assert "mood" not in rows
    [failure] = compact(f"file://{tmp_path}", before="2026-02-01").failures
    assert "columns unknown to this version: mood" in failure


def test_equal_scores_are_ordered_by_their_logits(tmp_path: Path) -> None:
    """Near 1 scores round to the same; rows of an older version have no logit and come last."""
    write(str(tmp_path), [scored("s3://b/in", 9, 1.0)], "2026-01-01")
    age(str(tmp_path))
    rows = [scored("s3://b/in", i, 1.0) | {"score_logit": 20.0 + i % 3} for i in range(3)]
    write(str(tmp_path), [*rows, scored("s3://b/in", 5, 0.9) | {"score_logit": 99.0}], "2026-01-02")
    results = open_results(str(tmp_path))
    expected = [f"s3://b/in/{i}.jpg" for i in (2, 1, 0, 9, 5)]
    assert list(results.scores().uri) == expected
    assert list(results.scores(min_score=0.5, columns=["uri"]).uri) == expected
    assert list(results.top(5, per_category=False).uri) == expected
    assert list(results.top(1, per_category=False, columns=["uri"]).uri) == expected[:1]


def test_rows_of_other_references_are_of_another_model(tmp_path: Path) -> None:
    """A bolt and a nut; bolts get references, which are refreshed, and caps lose theirs."""
    output = str(tmp_path)
    for day, references in enumerate(({}, {"bolt": "1", "cap": "7"}, {"bolt": "2"}), 1):
        rows = [scored("s3://b/in", i, day / 10) for i in (0, 1)]
        rows.append(scored("s3://b/in", 3, day / 10) | {"category": "cap"})
        write(output, rows, f"2026-01-0{day}", references=references)
        if day == 1:
            age(output)
    results = open_results(output)

    def chosen(model: str | ModelIdentity | None) -> list[tuple[str, float]]:
        rows = results.scores(model=model)[["category", "score"]].itertuples(index=False)
        return sorted((str(category), round(float(score), 1)) for category, score in rows)

    bolts, caps, nuts = (
        [(name, day) for day in (0.1, 0.2, 0.3)] for name in ("bolt", "cap", "nut")
    )
    newest = ModelIdentity("m", {"bolt": "2"})
    assert results.newest_model() == newest
    assert chosen(newest) == [bolts[2], caps[2], nuts[2]]
    assert chosen(ModelIdentity("m", {"bolt": "1", "cap": "7"})) == [bolts[1], caps[1], nuts[2]]
    assert chosen(ModelIdentity("m")) == [bolts[0], caps[2], nuts[2]]
    assert chosen("m+refs-2") == [bolts[2]]
    assert chosen("m") == chosen(None) == [*bolts, caps[1], caps[2], nuts[2]]
    sets = results.scores(category="bolt").sort_values("score").reference_set
    assert list(sets.astype(object).fillna("")) == ["", "1", "2"]


def test_a_failure_ends_with_a_score_with_other_references(tmp_path: Path) -> None:
    write(str(tmp_path), [scored("s3://b/in", 0, None)], "2026-01-01", references={"nut": "1"})
    write(str(tmp_path), [scored("s3://b/in", 0, 0.7)], "2026-01-02", references={"nut": "2"})
    assert open_results(str(tmp_path)).scores().error.isna().all()


def test_an_output_tells_what_it_holds_once_it_was_read(tmp_path: Path) -> None:
    for day in (1, 2):
        rows = [scored("s3://b/in", day, 0.5)]
        write(str(tmp_path), rows, f"2026-01-0{day}", references={"bolt": "1"})
    results = open_results(str(tmp_path))
    results.scores(category="nut")
    assert repr(results) == f"open_results('file://{tmp_path}')", "nothing of the whole"
    results.scores()
    told = "2 rows of 2 categories, 1 model, 2 dates when last read"
    assert repr(results) == f"open_results('file://{tmp_path}')  # {told}"


def test_an_output_that_is_not_there_has_a_repr(tmp_path: Path) -> None:
    assert repr(open_results(f"{tmp_path}/none")) == f"open_results('file://{tmp_path}/none')"
    assert "s3://no-such-bucket" in repr(open_results("s3://no-such-bucket/out"))


def test_a_model_with_references_of_many_categories_is_shown_in_a_line() -> None:
    few = ModelIdentity("m", {"bolt": "2"})
    assert repr(few) == "ModelIdentity(base='m', references={'bolt': '2'})"
    many = ModelIdentity("m", {f"part {i}": str(i) for i in range(2_000)})
    assert repr(many) == "ModelIdentity(base='m', references=<of 2,000 categories>)"


def test_an_output_tells_its_place_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert repr(open_results(str(tmp_path))) == f"open_results('file://{tmp_path}')"
    monkeypatch.setenv("SOME_API_KEY", "canary0123456789")
    assert "canary" not in repr(open_results(f"{tmp_path}/canary0123456789"))
