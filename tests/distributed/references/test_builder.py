"""The actor that makes reference sets, and the model that judges with them, called without Ray."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.special import expit

from pipeline.config import ModelSpec
from pipeline.distributed.predictor import Predictor, Scored
from pipeline.distributed.reader import read_images
from pipeline.distributed.references.builder import ReferenceBuilder
from pipeline.distributed.references.judges import Judges
from pipeline.distributed.scorer import pixels_of
from pipeline.models import AdaCLIP
from pipeline.output.reference_catalogue import CatalogueEntry, ReferencesInUse, write_set
from pipeline.references import ReferenceSet
from pipeline.schema import MANIFEST_SCHEMA
from tests import golden
from tests.parts import part

CATEGORY = "a/b: c*"
NUMBERS = ("score", "score_logit", "zero_shot_score", "reference_score")
Image = tuple[str, bytes]


@pytest.fixture(scope="module")
def settings(golden_files: dict[str, str]) -> dict[str, Any]:
    """Of a model on one CPU."""
    return {
        "model": ModelSpec(**golden_files, image_size=golden.IMAGE_SIZE),
        "fingerprint": golden.load(golden_files).fingerprint(),
        "gpus": 0,
        "num_threads": 1,
    }


@pytest.fixture(scope="module")
def builder(settings: dict[str, Any]) -> ReferenceBuilder:
    return ReferenceBuilder(**settings, batch_size=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


def read(folder: Path, images: dict[str, bytes]) -> pa.Table:
    """Images as readers hand them on."""
    rows = []
    for name, body in images.items():
        if not (folder / name).exists():  # its ETag is its time
            (folder / name).write_bytes(body)
        stat = (folder / name).stat()
        row = {"uri": f"file://{folder}/{name}", "etag": f"{stat.st_mtime}-{stat.st_size}"}
        row |= {"image_id": "0" * 32, "size": stat.st_size, "category": CATEGORY}
        rows.append(row)
    manifest = pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)
    return pa.concat_tables(read_images(manifest, image_size=golden.IMAGE_SIZE, max_megapixels=1))


def good(numbers: range) -> dict[str, bytes]:
    return {f"{i}.png": part(0, i) for i in numbers}


def damaged(numbers: range) -> dict[str, bytes]:
    return {f"damaged-{i}.png": part(0, i, damaged=True) for i in numbers}


def names(rows: pa.Table) -> list[tuple[str, str]]:
    return list(zip(rows["uri"].to_pylist(), rows["etag"].to_pylist(), strict=True))


def in_use(folder: Path, data: bytes) -> ReferencesInUse:
    """A folder in which the set of ``CATEGORY`` lies."""
    sha256 = hashlib.sha256(data).hexdigest()
    entry = CatalogueEntry(
        id="0" * 16,
        sha256=sha256,
        unlabelled=False,
        num_images=1,
        num_looks=1,
        num_looked_at=1,
        abnormal_share=0.0,
        created="2026-11-28T20:00:00+00:00",
    )
    write_set(str(folder), entry, data)
    return ReferencesInUse(str(folder), {CATEGORY: (entry.id, sha256)})


def score(predictor: Predictor, rows: pa.Table, categories: list[str]) -> Scored:
    pixels = pixels_of(rows["pixels"], golden.IMAGE_SIZE)
    found = predictor.score(pixels, categories, names(rows))
    assert found is not None
    assert found.fits.all()
    return found


def only(found: Scored, chosen: list[int]) -> Scored:
    """Some images of a batch."""
    values = {name: getattr(found, name)[chosen] for name in (*NUMBERS, "grid", "fits")}
    return found._replace(**values, nearest_reference=[found.nearest_reference[i] for i in chosen])


def assert_same(one: Scored, other: Scored, tolerance: float = 0.0) -> None:
    """The same scores, bit for bit unless there is a tolerance."""
    for name in (*NUMBERS, "grid"):
        ours, theirs = getattr(one, name), getattr(other, name)
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    assert one.nearest_reference == other.nearest_reference


# --- building -------------------------------------------------------------------------------


def test_what_the_catalogue_says_is_what_the_file_holds(
    builder: ReferenceBuilder, folder: Path
) -> None:
    rows = read(folder, good(range(6)) | {"broken.png": b"no image"})
    data, told = builder.build(CATEGORY, "m", [rows[:4], rows[4:]], None, None, unlabelled=False)
    found = ReferenceSet.from_bytes(data)
    assert (found.category, found.model, found.unlabelled) == (CATEGORY, "m", False)
    assert told["images"] == found.images == tuple(names(rows)[:6])
    assert (told["num_images"], told["num_looks"], told["num_looked_at"]) == (6, 1, 6)
    assert (told["abnormal_share"], told["created"]) == (0.0, found.created)
    lengths = found.embeddings.float().norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(6), rtol=0, atol=1e-3)


def test_damaged_images_are_left_out_without_labels(
    builder: ReferenceBuilder, folder: Path
) -> None:
    rows = read(folder, good(range(20)) | damaged(range(5)))
    _, told = builder.build(CATEGORY, "m", [rows], None, None, unlabelled=True)
    kept = [uri.rsplit("/", 1)[1] for uri, _ in told["images"]]
    assert len(kept) >= 12
    assert not [name for name in kept if "damaged" in name]
    assert told["abnormal_share"] == pytest.approx(0.2, abs=0.1)


def test_sample_and_rest_are_the_whole(builder: ReferenceBuilder, folder: Path) -> None:
    rows = read(folder, good(range(10)))
    screens = builder.screens([rows[:6]], None, unlabelled=False)
    parts = [builder.add_up(rows[i : i + 2], screens, unlabelled=False) for i in (6, 8)]
    rest = parts[0] + parts[1]
    data, _ = builder.build(CATEGORY, "m", [rows[:6]], rest, None, unlabelled=False)
    whole, _ = builder.build(CATEGORY, "m", [rows], None, None, unlabelled=False)
    one, other = (ReferenceSet.from_bytes(each) for each in (data, whole))
    assert one.images == other.images
    for a, b in zip(one.looks[0].sums.moments(), other.looks[0].sums.moments(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_added_images_are_among_the_others(builder: ReferenceBuilder, folder: Path) -> None:
    rows = read(folder, good(range(8)))
    first, _ = builder.build(CATEGORY, "m", [rows[:5]], None, None, unlabelled=False)
    both, told = builder.build(CATEGORY, "m", [rows[5:]], None, first, unlabelled=False)
    assert told["images"] == tuple(names(rows))
    assert ReferenceSet.from_bytes(both).looks[0].sums.num_images == 8


def test_images_of_which_none_can_be_read_are_told(builder: ReferenceBuilder, folder: Path) -> None:
    rows = read(folder, {"a.png": b"", "b.png": b"no image"})
    with pytest.raises(ValueError, match="none of 2 images can be read"):
        builder.build(CATEGORY, "m", [rows], None, None, unlabelled=False)


def test_copies_of_one_picture_are_told_whatever_their_batch(
    builder: ReferenceBuilder, folder: Path
) -> None:
    """Batches of five: the last copy is alone in its own, which moves the last bits."""
    rows = read(folder, {f"copy-{i}.png": part(0, 0) for i in range(11)})
    with pytest.raises(ValueError, match="all 11 images are the same picture"):
        builder.build(CATEGORY, "m", [rows], None, None, unlabelled=True)


# --- judging --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_references(builder: ReferenceBuilder, settings: dict[str, Any], folder: Path) -> Predictor:
    """Compares images of ``CATEGORY`` with ten good ones."""
    rows = read(folder, good(range(10)))
    data, _ = builder.build(CATEGORY, "m", [rows], None, None, unlabelled=False)
    return Predictor(**settings, judges=Judges(in_use(folder, data)))


@pytest.fixture(scope="module")
def alone(settings: dict[str, Any]) -> Predictor:
    """Compares nothing."""
    return Predictor(**settings)


def test_rows_without_references_have_the_same_bits_in_any_batch(
    with_references: Predictor, alone: Predictor, folder: Path
) -> None:
    rows = read(folder, good(range(20, 24)))
    for categories in (["bolt"] * 4, ["bolt", CATEGORY, "nut", CATEGORY]):
        found, expected = score(with_references, rows, categories), score(alone, rows, categories)
        without = [i for i, name in enumerate(categories) if name != CATEGORY]
        here = only(found, without)
        assert_same(here, only(expected, without))
        np.testing.assert_array_equal(here.score, here.zero_shot_score)
        assert np.isnan(here.reference_score).all()
        assert set(here.nearest_reference) == {None}


def test_what_adaclip_alone_says_is_told_beside_the_references(
    with_references: Predictor, alone: Predictor, folder: Path
) -> None:
    rows = read(folder, good(range(20, 22)) | damaged(range(20, 22)))
    found, expected = (score(each, rows, [CATEGORY] * 4) for each in (with_references, alone))
    np.testing.assert_array_equal(found.zero_shot_score, expected.score)
    np.testing.assert_allclose(found.score, expit(found.score_logit), atol=1e-6)
    assert (found.score != found.zero_shot_score).all()
    assert (found.grid != expected.grid).any(axis=(1, 2)).all()


def test_damage_stands_out_among_siblings_in_score_and_map(
    with_references: Predictor, folder: Path
) -> None:
    """Of the golden model, whose weights are random: what it knows are the siblings."""
    rows = read(folder, good(range(20, 26)) | damaged(range(20, 26)))
    found = score(with_references, rows, [CATEGORY] * 12)
    for values in (found.reference_score, found.grid.max(axis=(1, 2))):
        assert values[6:].min() > values[:6].max()


def test_results_do_not_depend_on_the_batch(with_references: Predictor, folder: Path) -> None:
    rows = read(folder, good(range(20, 24)) | damaged(range(20, 22)))
    categories = [CATEGORY, "bolt", CATEGORY, CATEGORY, "bolt", CATEGORY]
    together = score(with_references, rows, categories)
    for i in range(6):
        alone = score(with_references, rows[i : i + 1], categories[i : i + 1])
        assert_same(alone, only(together, [i]), tolerance=1e-4)


def test_an_image_is_not_its_own_nearest_reference(
    with_references: Predictor, folder: Path
) -> None:
    rows = read(folder, good(range(3)) | good(range(20, 22)))
    found = score(with_references, rows, [CATEGORY] * 5)
    known = {uri for uri, _ in names(read(folder, good(range(10))))}
    for (uri, _), nearest in zip(names(rows), found.nearest_reference, strict=True):
        assert nearest in known - {uri}


def test_a_replaced_image_is_no_reference_any_more(
    with_references: Predictor, folder: Path
) -> None:
    """Its ETag is another: nothing of what is judged is among the others."""
    rows = read(folder, good(range(1)))
    pixels = pixels_of(rows["pixels"], golden.IMAGE_SIZE)
    [(uri, _)] = names(rows)
    found = with_references.score(pixels, [CATEGORY], [(uri, "another")])
    assert found is not None
    assert found.nearest_reference == [uri]
    assert score(with_references, rows, [CATEGORY]).reference_score > found.reference_score


def test_images_that_are_halved_for_their_memory_keep_their_references(
    with_references: Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read(folder, good(range(2)) | damaged(range(20, 22)))
    categories = [CATEGORY, CATEGORY, "bolt", CATEGORY]
    whole, predict = score(with_references, rows, categories), AdaCLIP.predict

    def with_little_memory(self: AdaCLIP, images: Any, *arguments: Any, **options: Any) -> Any:
        if len(images) > 1:
            raise torch.OutOfMemoryError
        return predict(self, images, *arguments, **options)

    monkeypatch.setattr(AdaCLIP, "predict", with_little_memory)
    assert_same(score(with_references, rows, categories), whole, tolerance=1e-4)


def test_embeddings_are_given_where_they_are_asked_for(
    settings: dict[str, Any], alone: Predictor, folder: Path
) -> None:
    rows = read(folder, good(range(3)))
    asked = score(Predictor(**settings, embeddings=True), rows, ["bolt"] * 3)
    plain = score(alone, rows, ["bolt"] * 3)
    assert_same(asked, plain)
    assert plain.embedding is None
    assert asked.embedding is not None
    np.testing.assert_allclose(np.linalg.norm(asked.embedding, axis=1), 1, atol=1e-5)


def test_a_fast_pass_without_text_sees_what_the_whole_model_sees(
    golden_files: dict[str, str],
) -> None:
    model = golden.load(golden_files)
    images, categories = golden.batch([0, 1, 2])
    frozen = model.predict(images, categories, keep_frozen=True).frozen
    alone = model.look(images)
    assert frozen is not None
    assert len(alone.tokens) == 3
    assert torch.equal(alone.embedding, frozen.embedding)
    for one, other in zip(alone.tokens, frozen.tokens, strict=True):
        assert torch.equal(one, other)
    assert model.predict(images, categories).frozen is None
