"""The scorer actor's class, called without Ray."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from pipeline.config import ModelSpec
from pipeline.distributed.reader import read_images
from pipeline.distributed.scorer import AnomalyScorer
from pipeline.images import preprocess
from pipeline.models import AdaCLIP, Prediction
from pipeline.schema import MANIFEST_SCHEMA, pixel_schema, scored_schema
from tests import golden


@pytest.fixture
def scorer(golden_files: dict[str, str]) -> AnomalyScorer:
    """A CPU scorer with the golden model."""
    model = ModelSpec(**golden_files, image_size=golden.IMAGE_SIZE)
    fingerprint = golden.load(golden_files).fingerprint()
    return AnomalyScorer(model, fingerprint=fingerprint, gpus=0, num_threads=1)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """The four golden images and, between them, an object that is no image."""
    folder = tmp_path_factory.mktemp("images")
    rows: list[dict[str, Any]] = []
    for i, (name, category) in enumerate(golden.CASES):
        (folder / name).write_bytes(golden.image_bytes(i))
        rows.append({"uri": f"file://{folder}/{name}", "category": category})
    (folder / "broken.jpg").write_bytes(b"broken")
    rows.insert(2, {"uri": f"file://{folder}/broken.jpg", "category": "x"})
    for row in rows:
        path = folder / row["uri"].rsplit("/", 1)[1]
        stat = path.stat()
        row |= {"image_id": "0" * 32, "etag": f"{stat.st_mtime}-{stat.st_size}"}
        row |= {"size": stat.st_size, "last_modified": None, "error": None, "error_message": None}
    manifest = pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)
    return pa.concat_tables(read_images(manifest, image_size=golden.IMAGE_SIZE, max_megapixels=1))


def expected(golden_files: dict[str, str]) -> Prediction:
    return golden.load(golden_files).predict(*golden.batch([0, 1, 2, 3]))


def test_readable_rows_are_scored_and_the_others_pass_through(
    scorer: AnomalyScorer, batch: pa.Table, golden_files: dict[str, str]
) -> None:
    out = scorer(batch)
    assert out.schema.equals(scored_schema())
    assert out["uri"].to_pylist() == batch["uri"].to_pylist()
    assert out["error"].to_pylist() == [None, None, "not_an_image", None, None]
    scores = [s for s in out["score"].to_pylist() if s is not None]
    np.testing.assert_allclose(scores, expected(golden_files).score, atol=1e-5)


def test_images_are_normalised_as_the_backbone_wants(
    batch: pa.Table, golden_files: dict[str, str], tmp_path: Path
) -> None:
    backbone = tmp_path / "other_pixels.json"
    architecture = json.loads(Path(golden.BACKBONE).read_text())
    pixels = {"mean": [0.5, 0.4, 0.6], "std": [0.2, 0.3, 0.4]}
    backbone.write_text(json.dumps({"model_cfg": architecture, "preprocess_cfg": pixels}))
    files = {**golden_files, "backbone": str(backbone)}
    model = golden.load(files)
    spec = ModelSpec(**files, image_size=golden.IMAGE_SIZE)
    scorer = AnomalyScorer(spec, fingerprint=model.fingerprint(), gpus=0, num_threads=1)
    scores = [s for s in scorer(batch)["score"].to_pylist() if s is not None]
    squares = [
        preprocess(golden.image_bytes(i), golden.IMAGE_SIZE, *model.pixels) for i in range(4)
    ]
    theirs = model.predict(np.stack(squares), [category for _, category in golden.CASES])
    np.testing.assert_allclose(scores, theirs.score, atol=1e-5)
    assert np.abs(np.array(scores) - expected(golden_files).score.numpy()).max() > 0.01


def test_a_slice_of_a_table_is_scored_as_itself(scorer: AnomalyScorer, batch: pa.Table) -> None:
    """Ray Data hands out slices, whose buffers start elsewhere."""
    whole = scorer(batch)["score"].to_pylist()
    parts = [*scorer(batch.slice(1, 3))["score"].to_pylist()]
    assert parts == [pytest.approx(s, abs=1e-5) if s else None for s in whole[1:4]]


def test_a_batch_without_readable_rows_runs_no_model(
    scorer: AnomalyScorer, batch: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AdaCLIP, "predict", None)
    assert scorer(batch.slice(2, 1))["error"].to_pylist() == ["not_an_image"]
    assert len(scorer(pixel_schema(golden.IMAGE_SIZE).empty_table())) == 0


def test_a_batch_too_large_for_the_memory_is_halved_until_it_fits(
    scorer: AnomalyScorer, batch: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, predict, sizes = scorer(batch), AdaCLIP.predict, []

    def with_little_memory(
        self: AdaCLIP, images: Any, categories: list[str], **_: Any
    ) -> Prediction:
        sizes.append(len(images))
        if len(images) > 1:
            raise torch.OutOfMemoryError
        return predict(self, images, categories)

    monkeypatch.setattr(AdaCLIP, "predict", with_little_memory)
    halved = scorer(batch)
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    assert halved["uri"].equals(whole["uri"])
    a, b = (np.array(t["score"].to_pylist(), dtype=float) for t in (halved, whole))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_an_image_that_never_fits_is_an_error_that_may_pass(
    scorer: AnomalyScorer, batch: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_memory(self: AdaCLIP, images: Any, categories: list[str], **_: Any) -> Prediction:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(AdaCLIP, "predict", without_memory)
    assert set(scorer(batch)["error"].to_pylist()) == {"out_of_memory", "not_an_image"}


def test_a_score_that_is_no_number_is_an_error(
    scorer: AnomalyScorer, batch: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: AdaCLIP, images: Any, categories: list[str], **_: Any) -> Prediction:
        score = torch.tensor([0.5, float("nan"), 0.5, 0.5])
        grid = torch.zeros(4, 12, 12)
        grid[2, 3, 3] = float("inf")
        return Prediction(grid, score, score.logit())

    monkeypatch.setattr(AdaCLIP, "predict", broken)
    out = scorer(batch)
    assert out["error"].to_pylist() == [None, "not_finite", "not_an_image", "not_finite", None]
    assert out["score"].null_count == 3


def test_two_threads_get_the_same_as_one(
    scorer: AnomalyScorer, batch: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the device has one batch at a time."""
    expected, predict, busy, most = scorer(batch), AdaCLIP.predict, [0], [0]

    def watched(self: AdaCLIP, *arguments: Any, **options: Any) -> Prediction:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        found = predict(self, *arguments, **options)
        busy[0] -= 1
        return found

    monkeypatch.setattr(AdaCLIP, "predict", watched)
    with ThreadPoolExecutor(2) as threads:
        began = time.monotonic()
        found = list(threads.map(scorer, [batch] * 6))
        went_by = time.monotonic() - began
    assert most == [1]
    measured = ("score_s", "scorer_memory")
    for each in found:
        assert each.drop_columns(measured).equals(expected.drop_columns(measured))
    assert 0 < sum(pc.sum(each["score_s"]).as_py() for each in found) <= went_by


def test_other_weights_than_planned_are_refused(golden_files: dict[str, str]) -> None:
    model = ModelSpec(**golden_files, image_size=golden.IMAGE_SIZE)
    with pytest.raises(ValueError, match="the weights changed since the run began"):
        AnomalyScorer(model, fingerprint="another", gpus=0, num_threads=1)
