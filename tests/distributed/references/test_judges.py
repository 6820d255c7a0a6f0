"""The references in a scorer: read when met, kept while they fit, refused by name if damaged."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from pipeline.distributed.references.judges import Judges
from pipeline.output.reference_catalogue import (
    CatalogueEntry,
    ReferencesError,
    ReferencesInUse,
    write_set,
)
from pipeline.references import build
from pipeline.storage import StorageError
from tests.references.siblings import Line

CPU = torch.device("cpu")
CATEGORIES = ("bolt", "a/b: c*", "größe-測定")


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> ReferencesInUse:
    """A folder with the references of three categories."""
    uri, sets = str(tmp_path_factory.mktemp("references")), {}
    for number, category in enumerate(CATEGORIES):
        seen = Line(number).seen(Line(number).tokens(range(4)))
        data = build(category, "m", seen, unlabelled=False).to_bytes()
        sets[category] = write(uri, f"{number:016x}", data)
    return ReferencesInUse(uri, sets)


def write(uri: str, set_id: str, data: bytes) -> tuple[str, str]:
    """Put a set's file into a folder; returns its id and hash."""
    entry = CatalogueEntry(
        id=set_id,
        sha256=hashlib.sha256(data).hexdigest(),
        unlabelled=False,
        num_images=4,
        num_looks=1,
        num_looked_at=4,
        abnormal_share=0.0,
        created="2026-11-28T20:00:00+00:00",
    )
    write_set(uri, entry, data)
    return set_id, entry.sha256


def test_a_set_is_read_when_its_category_is_met_and_only_then(used: ReferencesInUse) -> None:
    judges = Judges(used)
    assert (judges.num_loads, judges.nbytes) == (0, 0)
    first = judges.of(["bolt", "bolt"], CPU)
    assert list(first) == ["bolt"]
    assert judges.num_loads == 1
    again = judges.of(["größe-測定", "bolt"], CPU)
    assert set(again) == {"größe-測定", "bolt"}
    assert again["bolt"] is first["bolt"]
    assert judges.num_loads == 2


def test_each_category_is_judged_by_its_own_references(used: ReferencesInUse) -> None:
    found = Judges(used).of(CATEGORIES, CPU)
    for number, category in enumerate(CATEGORIES):
        seen = Line(number).seen(Line(number).tokens(range(50, 54)), 50)
        arguments = (seen.images, seen.tokens, seen.embeddings, seen.grids, seen.logits)
        own = found[category].judge(*arguments).reference_logit
        for other in set(CATEGORIES) - {category}:
            assert (found[other].judge(*arguments).reference_logit > own + 3).all()


def test_categories_without_references_are_left_out(used: ReferencesInUse) -> None:
    assert list(Judges(used).of(["nut", "bolt", ""], CPU)) == ["bolt"]
    assert Judges(ReferencesInUse()).of(["bolt"], CPU) == {}


def test_memory_is_bounded_and_the_ones_used_last_stay(used: ReferencesInUse) -> None:
    one = Judges(used)
    one.of(["bolt"], CPU)
    judges = Judges(used, max_bytes=2 * one.nbytes)
    for category in ("bolt", "a/b: c*", "bolt", "größe-測定"):
        judges.of([category], CPU)
    assert judges.nbytes == 2 * one.nbytes
    assert judges.num_loads == 3
    judges.of(["bolt"], CPU)
    assert judges.num_loads == 3
    judges.of(["a/b: c*"], CPU)  # the one that had to go
    assert judges.num_loads == 4


def test_a_batch_with_more_categories_than_fit_is_judged_all_the_same(
    used: ReferencesInUse,
) -> None:
    judges = Judges(used, max_bytes=1)
    for _ in range(2):
        assert list(judges.of(CATEGORIES, CPU)) == list(CATEGORIES)
    assert judges.num_loads == 6
    one = Judges(used)
    one.of(["bolt"], CPU)
    assert judges.nbytes == one.nbytes  # one is kept, however large


@pytest.mark.parametrize("content", [b"", b"something else"])
def test_a_changed_file_is_refused_by_category_folder_and_file(
    used: ReferencesInUse, tmp_path: Path, content: bytes
) -> None:
    set_id, sha256 = write(str(tmp_path), "00000000000000ff", b"the sums")
    (tmp_path / "sets" / f"{set_id}.safetensors").write_bytes(content)
    with pytest.raises(ReferencesError) as refused:
        Judges(ReferencesInUse(str(tmp_path), {"bolt": (set_id, sha256)})).of(["bolt"], CPU)
    for word in ("'bolt'", str(tmp_path), f"{set_id}.safetensors is damaged"):
        assert word in str(refused.value)


def test_a_file_that_is_no_set_is_refused_by_category_and_folder(tmp_path: Path) -> None:
    sets = {"bolt": write(str(tmp_path), "00000000000000ff", b"no set, but the one that is named")}
    with pytest.raises(ReferencesError, match=f"'bolt' in {tmp_path}: no reference set"):
        Judges(ReferencesInUse(str(tmp_path), sets)).of(["bolt"], CPU)


def test_a_missing_file_is_an_error_of_storage(tmp_path: Path) -> None:
    used = ReferencesInUse(str(tmp_path), {"bolt": ("00000000000000ff", "0" * 64)})
    with pytest.raises(StorageError, match="00000000000000ff"):
        Judges(used).of(["bolt"], CPU)
