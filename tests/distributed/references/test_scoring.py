"""Scoring beside references, on a real local Ray: what changes, and what stays to the bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.anomaly_map import Q15
from pipeline.config import BuildReferencesConfig, ScoreConfig
from pipeline.distributed.fingerprints import fingerprint
from pipeline.distributed.references import sets
from pipeline.distributed.references.in_use import find_references
from pipeline.distributed.references.job import build_references
from pipeline.distributed.scoring import score_bucket
from pipeline.errors import CannotRunError
from pipeline.output.reference_catalogue import (
    Catalogue,
    CatalogueEntry,
    read_catalogue,
    write_catalogue,
)
from pipeline.results import open_results
from tests import golden
from tests.parts import parts

pytestmark = pytest.mark.usefixtures("local_ray")

COMPARED = ["score", "score_logit", "zero_shot_score", "map_max", "anomalous_area"]


@pytest.fixture
def config(golden_files: dict[str, str], tmp_path: Path) -> ScoreConfig:
    """Score a folder with the golden model; the last bits of a score depend on its batch."""
    return ScoreConfig(
        input=(str(tmp_path / "images"),),
        output=str(tmp_path / "scores"),
        image_size=golden.IMAGE_SIZE,
        batch_size=1,
        gallery=0,
        **golden_files,  # type: ignore[arg-type]
    )


def write(folder: Path, category: str, files: dict[str, bytes]) -> None:
    (folder / category).mkdir(parents=True, exist_ok=True)
    for name, body in files.items():
        if not (folder / category / name).exists():
            (folder / category / name).write_bytes(body)


def table(config: ScoreConfig) -> pd.DataFrame:
    """All rows, also older ones."""
    frame = pd.read_parquet(f"{config.output}/scores")
    frame["name"] = frame.uri.str.rsplit("/", n=1).str[1]
    return frame.sort_values(["category", "name", "scored_at"]).reset_index(drop=True)


def references(config: ScoreConfig, category: str, output: Path, **changes: Any) -> dict[str, str]:
    """Make references of all parts of a category that are known to be good; the sets' ids."""
    settings: dict[str, Any] = {
        "input": (f"{config.input[0]}/{category}",),
        "category": category,
        "exclude": ("*damaged*",),
        "output": str(output),
        "image_size": config.image_size,
        "batch_size": 1,
        "backbone": config.backbone,
        "backbone_weights": config.backbone_weights,
        "checkpoint": config.checkpoint,
    }
    built = build_references(BuildReferencesConfig(**{**settings, **changes}))
    return {name: each.id for name, each in built.catalogue.sets.items()}


def assert_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """The same images with the very same scores."""
    assert list(one.image_id) == list(other.image_id)
    for column in COMPARED:
        np.testing.assert_array_equal(one[column].to_numpy(), other[column].to_numpy())


def of(frame: pd.DataFrame, category: str) -> pd.DataFrame:
    return frame[frame.category == category].reset_index(drop=True)


def test_references_change_the_scores_of_their_own_category_only(
    config: ScoreConfig, tmp_path: Path
) -> None:
    images, folder = tmp_path / "images", tmp_path / "references"
    for line, category in enumerate(("bolt", "nut")):
        write(images, category, parts(line, range(6)) | parts(line, range(2), damaged=True))
    write(images, "bolt", {"broken.png": b"no image"})
    config = replace(config, max_error_rate=1.0)
    alone = score_bucket(config)
    first = table(config)
    assert (alone.scored, alone.num_errors) == (16, 1)
    assert first.reference_set.isna().all()
    assert first.reference_score.isna().all()
    assert first.nearest_reference.isna().all()
    scored = first[first.error.isna()]
    np.testing.assert_array_equal(scored.score, scored.zero_shot_score)

    ids = references(config, "bolt", folder)
    config = replace(config, references=str(folder))
    beside = score_bucket(config)
    # Of bolts nothing is known under their new model, so that they are all scored again.
    assert (beside.listed, beside.skipped, beside.scored, beside.num_errors) == (17, 8, 8, 1)
    assert beside.references == ids
    assert beside.as_dict()["references"] == {"uri": f"file://{folder}", "sets": ids}
    rows = table(config)
    assert_same(of(rows, "nut"), of(first, "nut"))
    bolts = of(rows, "bolt")
    assert len(bolts) == 18  # the rows of before stay
    named = f"{alone.model}+refs-{ids['bolt']}"
    assert list(bolts.groupby("model", observed=True).size().sort_index().items()) == [
        (alone.model, 9),
        (named, 9),
    ]
    new = bolts[(bolts.model == named) & bolts.error.isna()].reset_index(drop=True)
    assert set(new.reference_set) == {ids["bolt"]}
    assert new.score.between(0, 1).all()
    assert new.reference_score.between(0, 1).all()
    np.testing.assert_allclose(new.score, 1 / (1 + np.exp(-new.score_logit)), atol=1e-6)
    before = of(scored, "bolt")
    np.testing.assert_array_equal(new.zero_shot_score, before.score)
    assert (new.score != before.score).all()
    known = {f"file://{images}/bolt/part-{i}.png" for i in range(6)}
    assert set(new.nearest_reference) <= known
    assert (new.nearest_reference != new.uri).all()
    damaged = new.name.str.startswith("damaged")
    assert new.reference_score[damaged].min() > new.reference_score[~damaged].max()

    # From nothing: the same rows, whatever the output held.
    fresh = replace(config, output=str(tmp_path / "fresh"), embeddings=True)
    assert score_bucket(fresh).num_done == 17
    again = table(fresh)
    assert_same(of(again, "nut"), of(first, "nut"))
    assert_same(of(again[again.error.isna()], "bolt"), new)
    shards = [pq.read_table(path) for path in (tmp_path / "fresh" / "maps").rglob("*.parquet")]
    embeddings = [each.as_py() for shard in shards for each in shard["embedding_q15"]]
    assert len(embeddings) == 16
    assert np.linalg.norm(np.array(embeddings) / Q15, axis=1) == pytest.approx(1, abs=1e-3)
    similar = open_results(fresh.output).similar(of(again, "bolt").iloc[2], 3)
    assert similar.similarity.between(0, 1.001).all()

    # References of a second category: its rows are added, and no other's.
    more = references(config, "nut", folder, add=True)
    assert more["bolt"] == ids["bolt"]
    last = score_bucket(config)
    assert (last.skipped, last.scored, last.num_errors) == (9, 8, 0)
    rows = table(config)
    assert len(rows) == 17 + 9 + 8
    nuts = of(rows, "nut")
    assert_same(nuts[nuts.reference_set.isna()].reset_index(drop=True), of(first, "nut"))
    assert score_bucket(config).skipped == 17
    results = open_results(config.output)
    newest = results.scores(model=results.newest_model())
    assert len(newest) == 17
    assert newest[newest.error.isna()].reference_set.notna().all()


def test_tiles_are_compared_with_tiles(
    config: ScoreConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image is four tiles: some of the first are the sample, the rest and others add up."""
    monkeypatch.setattr(sets, "SAMPLE_SIZE", 8)
    images, folder = tmp_path / "images", tmp_path / "references"
    write(images, "bolt", parts(0, range(6)) | parts(0, range(2), damaged=True))
    write(images, "bolt", {"broken.png": b"no image"})
    config = replace(config, tiles=2, tile_size=60, batch_size=4, max_error_rate=1.0)
    tiled = {"tiles": 2, "tile_size": 60, "batch_size": 4}
    ids = references(config, "bolt", folder, max_error_rate=1.0, **tiled)
    entry = read_catalogue(str(folder)).sets["bolt"]
    assert entry.num_images == len(set(entry.images)) == 6 * 4
    assert {uri.rsplit("/", 1)[1] for uri, _ in entry.images} == {f"part-{i}.png" for i in range(6)}
    assert [uri.rsplit("/", 1)[1] for uri, *_ in entry.unusable] == ["broken.png"]
    again = references(config, "bolt", folder, max_error_rate=1.0, add=True, **tiled)
    assert again == ids  # all of them are known

    config = replace(config, references=str(folder))
    assert score_bucket(config).scored == 8
    rows = table(config).dropna(subset=["score"]).set_index("name")
    damaged = rows.index.str.startswith("damaged")
    assert rows.reference_score[damaged].min() > rows.reference_score[~damaged].max()
    assert rows.nearest_reference.astype(str).str.contains("/bolt/part-").all()
    assert (rows.nearest_reference.astype(str) != rows.uri).any()


def test_a_bucket_that_is_its_own_reference_keeps_its_sets_until_they_are_refreshed(
    config: ScoreConfig, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    write(images, "bolt", parts(0, range(19)))
    write(images, "nut", parts(1, range(18)) | parts(1, range(3), damaged=True))
    config = replace(config, references="auto", batch_size=4)
    first = score_bucket(config)
    assert list(first.references) == ["nut"]  # 19 bolts are too few
    assert first.scored == 40
    rows = table(config)
    assert of(rows, "bolt").reference_set.isna().all()
    nuts = of(rows, "nut")
    assert set(nuts.reference_set) == {first.references["nut"]}
    damaged = nuts.name.str.startswith("damaged")
    assert nuts.reference_score[damaged].min() > nuts.reference_score[~damaged].median()

    write(images, "bolt", parts(0, range(19, 22)))
    write(images, "nut", parts(1, range(18, 22)))
    second = score_bucket(config)
    assert second.references["nut"] == first.references["nut"]
    assert sorted(second.references) == ["bolt", "nut"]
    assert (second.skipped, second.scored) == (21, 22 + 4)
    rows = table(config)
    assert (len(of(rows, "bolt")), len(of(rows, "nut"))) == (19 + 22, 25)
    nuts_before = of(rows, "nut")[of(rows, "nut").image_id.isin(nuts.image_id)]
    assert_same(nuts_before.reset_index(drop=True), nuts)

    third = score_bucket(replace(config, refresh_references=True))
    assert third.references["nut"] != first.references["nut"]
    assert third.references["bolt"] == second.references["bolt"]  # of the same images
    assert (third.skipped, third.scored) == (22, 25)
    assert len(of(table(config), "nut")) == 50

    # Who only looks makes nothing, and another model finds no references of its own.
    model = fingerprint(config)
    assert find_references(config, model).identity(model).references == third.references
    assert find_references(config, "another").sets == {}


@pytest.mark.parametrize(
    "change",
    [{"decoder": "fast"}, {"precision": "bf16"}, {"image_size": 112}, {"num_clusters": 3}],
)
def test_references_of_another_model_are_refused_before_a_scorer_starts(
    config: ScoreConfig, tmp_path: Path, change: dict[str, Any], entry: Callable[[], CatalogueEntry]
) -> None:
    write(tmp_path / "images", "bolt", parts(0, range(1)))
    uri, made_for = str(tmp_path / "references"), fingerprint(config)
    write_catalogue(uri, Catalogue(model=made_for, sets={"bolt": entry()}))
    with pytest.raises(CannotRunError) as refused:
        score_bucket(replace(config, references=uri, **change), scorer=NeverStarts)
    for words in ("--references can't be used", made_for, fingerprint(replace(config, **change))):
        assert words in str(refused.value)
    assert not (tmp_path / "scores" / "scores").exists()


class NeverStarts:
    """Takes the scorer's place."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise AssertionError("a scorer was started")


@pytest.fixture
def entry() -> Callable[[], CatalogueEntry]:
    """A set of which there is no file."""
    return lambda: CatalogueEntry(
        id="0" * 16,
        sha256="0" * 64,
        unlabelled=False,
        num_images=1,
        num_looks=1,
        num_looked_at=1,
        abnormal_share=0.0,
        created="2026-11-28T20:00:00+00:00",
    )


def test_references_that_are_not_there_are_one_sentence(
    config: ScoreConfig, tmp_path: Path
) -> None:
    write(tmp_path / "images", "bolt", parts(0, range(1)))
    with pytest.raises(CannotRunError, match=r"holds no references\.json; make references with"):
        score_bucket(replace(config, references=str(tmp_path / "nowhere")), scorer=NeverStarts)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "references.json").write_text("{")
    with pytest.raises(CannotRunError, match=r"references\.json is damaged"):
        score_bucket(replace(config, references=str(tmp_path / "damaged")), scorer=NeverStarts)
    assert not (tmp_path / "scores" / "scores").exists()
