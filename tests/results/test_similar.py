"""Images that look alike: those that brute force finds, of the same category and model only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from pipeline.anomaly_map import Q15, dequantize, quantize
from pipeline.output import rows as score_rows
from pipeline.output.compaction import compact
from pipeline.results import open_results
from pipeline.results.maps import MapReader
from tests.outputs import age, scored, write

NUM_IMAGES, WIDTH = 300, 16


def embedding(i: int, seed: int = 0) -> NDArray[np.float32]:
    """A direction of unit length, as files hold it."""
    found = np.random.default_rng([seed, i]).normal(size=WIDTH)
    return dequantize(quantize(found / np.linalg.norm(found), Q15), Q15)


def kept(i: int, seed: int = 0) -> dict[str, object]:
    return {"embedding_q15": quantize(embedding(i, seed), Q15)}


def rows(numbers: range, score: float = 0.5, seed: int = 0) -> list[dict[str, object]]:
    """Bolts and nuts with an embedding each."""
    return [scored("s3://b/in", i, score) | kept(i, seed) for i in numbers]


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two nights of 150 images, one without an embedding, and an error; read in small batches."""
    monkeypatch.setattr(score_rows, "BATCH_ROWS", 70)
    folder = str(tmp_path / "out")
    first, second = rows(range(150)), rows(range(150, NUM_IMAGES))
    first[4]["embedding_q15"] = None
    write(folder, [scored("s3://b/in", 999, None), *first], "2026-01-01")
    write(folder, second, "2026-01-02")
    return folder


def row_of(output: str, i: int) -> pd.Series:
    frame = open_results(output).scores(latest=False)
    return frame[frame.image_id == f"{i:032x}"].iloc[0]


def nearest(i: int, n: int) -> list[str]:
    """By brute force, among the images of its category."""
    others = [j for j in range(i % 2, NUM_IMAGES, 2) if j not in (i, 4)]
    cosine = {j: float(embedding(i).astype("f8") @ embedding(j).astype("f8")) for j in others}
    return [f"s3://b/in/{j}.jpg" for j in sorted(others, key=lambda j: -cosine[j])[:n]]


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("i", [0, 77, NUM_IMAGES - 1])
def test_the_most_similar_are_those_of_brute_force(output: str, i: int, compacted: bool) -> None:
    if compacted:
        write(output, rows(range(1_000, 1_001), score=0.1), "2026-01-01", "other")
        compact(f"file://{output}", before="2026-01-03")
    found = open_results(output).similar(row_of(output, i), 7)
    assert list(found.uri) == nearest(i, 7)
    assert list(found.columns[:4]) == ["uri", "similarity", "image_id", "etag"]
    assert found.similarity.dtype == np.float32
    assert found.similarity.is_monotonic_decreasing
    own, first = embedding(i).astype("f8"), embedding(int(found.image_id[0], 16)).astype("f8")
    cosine = own @ first / np.linalg.norm(own) / np.linalg.norm(first)
    assert found.similarity[0] == pytest.approx(cosine, abs=1e-6)
    assert len(open_results(output).similar(row_of(output, i), 1_000)) == 149 - (i % 2 == 0)


def test_an_image_and_its_neighbours_can_be_opened(output: str) -> None:
    results = open_results(output)
    found = results.similar(row_of(output, 0), 2)
    assert results.map(found.iloc[0], size=8).shape == (8, 8)
    few = results.similar(row_of(output, 0), 2, columns=["score"])
    assert list(few.columns) == ["uri", "similarity", "score"]


def test_an_identical_image_is_wholly_similar(output: str) -> None:
    twin = rows(range(2_000, 2_001))[0] | kept(0)
    write(output, [twin], "2026-01-03")
    found = open_results(output).similar(row_of(output, 0), 1)
    assert list(found.uri) == ["s3://b/in/2000.jpg"]
    assert found.similarity[0] == pytest.approx(1.0, abs=1e-6)


def test_only_newest_rows_of_the_same_references_count(tmp_path: Path) -> None:
    """An image that was scored again looks another way; references make another model."""
    output = str(tmp_path)
    write(output, rows(range(0, 8, 2), 0.1), "2026-01-01")
    write(output, rows(range(0, 8, 2), 0.2, seed=1), "2026-01-02", references={"nut": "1"})
    write(output, rows(range(0, 8, 2), 0.3, seed=2), "2026-01-03", references={"nut": "1"})
    results = open_results(output)
    for date, score in (("2026-01-01", 0.1), ("2026-01-02", 0.3)):
        row = results.scores(scan_date=date).set_index("uri", drop=False).loc["s3://b/in/0.jpg"]
        found = results.similar(row)
        assert len(found) == 3, "not itself, each other image once"
        assert set(found.score) == {np.float32(score)}


def test_without_embeddings_the_remedy_is_told(output: str) -> None:
    results = open_results(output)
    for i in (4, 999):
        with pytest.raises(ValueError, match=rf"/{i}\.jpg has no embedding; .*--embeddings"):
            results.similar(row_of(output, i))
    with pytest.raises(ValueError, match="n is 0"):
        results.similar(row_of(output, 0), 0)
    with pytest.raises(ValueError, match="no column colour"):
        results.similar(row_of(output, 0), columns=["colour"])
    age(output)
    with pytest.raises(ValueError, match=r"/0\.jpg has no embedding"):
        open_results(output).similar(row_of(output, 0))


def test_old_shards_beside_new_ones_are_passed_over(output: str) -> None:
    age(output)
    write(output, rows(range(400, 410)), "2026-01-03")
    found = open_results(output).similar(row_of(output, 400), 100)
    assert sorted(found.uri) == [f"s3://b/in/{i}.jpg" for i in (402, 404, 406, 408)]


def test_only_row_groups_with_such_images_are_read(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory holds a row group's embeddings, and a map's reader none."""
    read: list[tuple[int, list[str]]] = []
    original = pq.ParquetFile.read_row_group

    def watched(file: pq.ParquetFile, i: int, columns: list[str], **kwargs: bool) -> object:
        read.append((i, columns))
        return original(file, i, columns=columns, **kwargs)

    row, results = row_of(output, 0), open_results(output)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", watched)
    results.map(row)
    assert read == [(0, ["logit_grid_q8", "grid_height", "grid_width"])]
    read.clear()
    shards = MapReader(f"file://{output}")
    here = [int(row_of(output, i).map_row) for i in (0, 110, 1)]
    assert here == [75, 130, 0], "bolts, then nuts"
    read.clear()
    found = list(shards.embeddings(str(row.map_file), np.array(here, np.int32)))
    assert read == [(0, ["embedding_q15"]), (1, ["embedding_q15"])]
    assert [positions.tolist() for positions, _ in found] == [[2, 0], [1]]
    np.testing.assert_array_equal(found[1][1][0], embedding(110))
