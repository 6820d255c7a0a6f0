"""Samples of the score table in bounded memory."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from pipeline.nightly.samples import Sample, nights_of, sample_categories
from pipeline.output.rows import by_category


def ids(count: int) -> np.ndarray:
    """Ids as the score table has them: hashes."""
    return np.array([hashlib.md5(str(i).encode()).digest() for i in range(count)], dtype="S16")


def test_a_small_category_is_kept_whole() -> None:
    sample = Sample(size=10)
    scores = np.arange(7, dtype=np.float32)
    sample.add(ids(7), scores, scores / 10)
    assert sorted(sample.values("score")) == list(scores)
    np.testing.assert_allclose(sorted(sample.values("anomalous_area")), scores / 10)


def test_a_large_category_is_sampled_evenly_and_the_same_in_any_order() -> None:
    scores = np.linspace(0, 1, 20_000, dtype=np.float32)
    all_ids = ids(len(scores))
    kept = []
    for order in (np.arange(len(scores)), np.random.default_rng(0).permutation(len(scores))):
        sample = Sample(size=2_000)
        for part in np.array_split(order, 13):
            sample.add(all_ids[part], scores[part], scores[part])
        assert sample.num_images == 20_000
        kept.append(np.sort(sample.values("score")))
    assert len(kept[0]) == 2_000
    np.testing.assert_array_equal(kept[0], kept[1])
    # Four standard errors of a quantile of 2,000.
    np.testing.assert_allclose(np.quantile(kept[0], [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.045)


def test_batches_are_cut_by_category_whatever_their_dictionary() -> None:
    category = pa.array(["b", None, "a", "b"]).dictionary_encode()
    rows = pa.record_batch({"category": category})
    assert {name: list(at) for name, at in by_category(rows)} == {"b": [0, 3], "a": [2]}
    empty = pa.record_batch({"category": category.slice(0, 0)})
    assert list(by_category(empty)) == []


def test_samples_are_taken_over_all_batches() -> None:
    batch = pa.record_batch(
        {
            "image_id": [i.hex() for i in ids(3)],
            "category": pa.array(["a", "b", "a"]).dictionary_encode(),
            "score": pa.array([0.1, 0.2, 0.3], pa.float32()),
            "anomalous_area": pa.array([0.0, 0.5, 1.0], pa.float32()),
        }
    )
    samples = sample_categories([batch, batch.slice(0, 0), batch.slice(1, 2)])
    assert {name: sample.num_images for name, sample in samples.items()} == {"a": 3, "b": 2}


def test_nights_are_scan_dates_not_days() -> None:
    files = [f"s3://b/out/scores/scan_date=2026-01-{day:02}/x.parquet" for day in (1, 4, 5, 9, 12)]
    files += ["s3://b/out/scores/other/x.parquet", files[3].replace("x.", "y.")]
    found = nights_of(files, "2026-01-09", nights=2)
    assert [(date[-2:], len(uris)) for date, uris in found.items()] == [
        ("04", 1),
        ("05", 1),
        ("09", 2),
    ]
    assert nights_of([], "2026-01-09", nights=2) == {}
