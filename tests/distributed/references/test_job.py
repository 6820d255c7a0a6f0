"""The job that makes references, on a real local Ray with the golden model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.config import BuildReferencesConfig
from pipeline.distributed.references import sets as reference_sets
from pipeline.distributed.references.candidates import choose
from pipeline.distributed.references.job import build_references
from pipeline.distributed.references.sets import Built
from pipeline.errors import CannotRunError
from pipeline.output.lock import OutputLock
from pipeline.output.reference_catalogue import (
    Catalogue,
    CatalogueEntry,
    read_catalogue,
    read_set,
    write_catalogue,
)
from pipeline.references import Judge, ReferenceSet
from tests import golden
from tests.listening import on_each_line
from tests.parts import parts
from tests.references.siblings import PATCHES

pytestmark = pytest.mark.usefixtures("local_ray")

ODD = "a/b: c*"  # a category that can't be a file's name
UMLAUT = "größe-測定"


@pytest.fixture
def config(golden_files: dict[str, str], tmp_path: Path) -> BuildReferencesConfig:
    """Make references of a folder, or of a list of images, with the golden model."""
    return BuildReferencesConfig(
        input=(str(tmp_path / "images"),),
        output=str(tmp_path / "references"),
        image_size=golden.IMAGE_SIZE,
        **golden_files,  # type: ignore[arg-type]
    )


def write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in files.items():
        (folder / name).write_bytes(body)


def listed(folder: Path, categories: dict[str, Iterable[str]]) -> str:
    """A list of images below ``folder`` with a column that names their categories."""
    lines = [
        f'{folder}/{name},"{category}"' for category, names in categories.items() for name in names
    ]
    (folder / "list.csv").write_text("\n".join(["uri,category", *lines]))
    return f"{folder}/list.csv"


def made(config: BuildReferencesConfig, **changes: object) -> Built:
    told: list[str] = []
    with on_each_line(told.append):
        built = build_references(replace(config, **changes))  # type: ignore[arg-type]
    assert told
    return built


def names(entry: CatalogueEntry) -> list[str]:
    return sorted(uri.rsplit("/", 1)[1] for uri, _ in entry.images)


def judgement(config: BuildReferencesConfig, entry: CatalogueEntry) -> Tensor:
    """What a set on disk says of any image: tokens that nothing else has."""
    found = ReferenceSet.from_bytes(read_set(config.output, entry.id, entry.sha256))
    generator = torch.Generator().manual_seed(0)
    width = found.looks[0].sums.first.shape[1]
    tokens = torch.randn(2, 3, PATCHES, width, generator=generator)
    tokens = torch.nn.functional.normalize(tokens, dim=-1)
    embeddings = torch.zeros(2, found.embeddings.shape[1])
    grids, logits = torch.zeros(2, PATCHES), torch.zeros(2)
    judge = Judge(found, torch.device("cpu"))
    judged = judge.judge([("a", "1"), ("b", "1")], tokens, embeddings, grids, logits)
    return torch.cat([judged.logit_grid.flatten(), judged.score_logit, judged.reference_logit])


def test_a_job_that_was_killed_goes_on_and_ends_as_if_it_had_run_once(
    config: BuildReferencesConfig, tmp_path: Path
) -> None:
    """Known-good images of four categories, one of which has none that can be read."""
    images = tmp_path / "images"
    write(images, parts(0, range(9)) | {"broken.png": b"no image", "empty.png": b""})
    names_of = [f"part-{i}.png" for i in range(9)]
    categories = {
        "bolt": [*names_of[:4], "broken.png"],
        ODD: names_of[4:8],
        UMLAUT: names_of[8:],
        "nut": ["broken.png", "empty.png"],
    }
    config = replace(config, input=(listed(images, categories),), max_error_rate=1.0)
    first = made(config)
    sets = first.catalogue.sets
    assert sorted(first.made) == sorted([ODD, "bolt", UMLAUT])
    assert first.failed == {"nut": "none of 2 images can be read"}
    assert first.catalogue == read_catalogue(config.output)
    assert {name: each.num_images for name, each in sets.items()} == {ODD: 4, "bolt": 4, UMLAUT: 1}
    assert names(sets["bolt"]) == names_of[:4]
    [(uri, code, message)] = sets["bolt"].unusable
    assert (uri.rsplit("/", 1)[1], code) == ("broken.png", "not_an_image")
    assert message
    assert first.unusable == {"not_an_image": 2, "empty": 1}
    assert first.error_rate == pytest.approx(3 / 12)
    files = {path.name for path in (tmp_path / "references" / "sets").iterdir()}
    assert files == {
        f"{each.id}.{kind}" for each in sets.values() for kind in ("json", "safetensors")
    }

    before = {name: judgement(config, each) for name, each in sets.items()}
    (tmp_path / "references" / "references.json").unlink()
    for kind in ("json", "safetensors"):
        (tmp_path / "references" / "sets" / f"{sets[ODD].id}.{kind}").unlink()
    again = made(config)
    assert (again.made, sorted(again.kept)) == ([ODD], sorted(["bolt", UMLAUT]))
    assert again.failed == first.failed
    for name, each in again.catalogue.sets.items():
        assert each.id == sets[name].id
        torch.testing.assert_close(judgement(config, each), before[name], rtol=0, atol=1e-5)
    assert again.catalogue.sets["bolt"] == sets["bolt"]


def test_a_bucket_without_labels_is_its_own_reference_and_grows(
    config: BuildReferencesConfig, tmp_path: Path
) -> None:
    """``--unlabelled``, then ``--add`` with the same images, with more, and with a new category."""
    images = tmp_path / "images"
    write(images / "bolt", parts(0, range(20)) | parts(0, range(4), damaged=True))
    config = replace(config, unlabelled=True)
    bolt = made(config).catalogue.sets["bolt"]
    assert bolt.unlabelled
    assert bolt.num_looked_at == 24
    assert bolt.abnormal_share == pytest.approx(4 / 24, abs=0.1)
    assert not [name for name in names(bolt) if "damaged" in name]
    assert len(names(bolt)) >= 12

    config = replace(config, add=True)
    same = made(config)
    assert (same.made, same.kept) == ([], ["bolt"])
    assert same.catalogue.sets["bolt"] == bolt  # what was left out is not looked at again

    write(images / "bolt", parts(0, range(20, 26)) | parts(0, range(4, 6), damaged=True))
    write(images / "nut", parts(1, range(9)))
    more = made(config)
    assert sorted(more.made) == ["bolt", "nut"]
    grown = more.catalogue.sets["bolt"]
    assert grown.id != bolt.id
    assert grown.num_looked_at == 32
    assert set(names(bolt)) < set(names(grown))
    assert not [name for name in names(grown) if "damaged" in name]
    assert more.num_looked_at == 8 + 9
    known = made(replace(config, input=(str(images / "nut"),), category="nut"))
    assert known.catalogue.sets.keys() == {"bolt", "nut"}  # what is not listed stays


def test_many_images_of_a_category_are_cut_into_blocks_in_any_way(
    config: BuildReferencesConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "images" / "bolt", parts(0, range(74)) | parts(0, range(5), damaged=True))
    config = replace(config, unlabelled=True, max_images_per_category=76)
    one = made(config).catalogue.sets["bolt"]
    assert one.num_looked_at == 76
    beyond = choose(config.score_config(), 76)["bolt"].rows["uri"].to_pylist()[64:]
    assert len({uri for uri, _ in one.images} & set(beyond)) > 5
    assert not [name for name in names(one) if "damaged" in name]
    monkeypatch.setattr(reference_sets, "IMAGES_PER_BLOCK", 7)
    other_config = replace(config, output=str(tmp_path / "other"), num_actors=2, batch_size=3)
    other = made(other_config).catalogue.sets["bolt"]
    assert (other.id, names(other)) == (one.id, names(one))
    torch.testing.assert_close(
        judgement(other_config, other), judgement(config, one), rtol=0, atol=1e-4
    )


def test_images_are_chosen_by_their_hash_and_not_by_their_place(
    config: BuildReferencesConfig, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    write(images, parts(0, range(40)))

    def chosen(categories: dict[str, Iterable[str]], most: int = 12) -> dict[str, list[str]]:
        listing = replace(config, input=(listed(images, categories),)).score_config()
        found = choose(listing, most)
        return {
            name: [uri.rsplit("/", 1)[1] for uri in each.rows["uri"].to_pylist()]
            for name, each in found.items()
        }

    everything = [f"part-{i}.png" for i in range(40)]
    bolt = chosen({"bolt": everything})["bolt"]
    assert len(bolt) == len(set(bolt)) == 12
    assert set(bolt) not in (set(everything[:12]), set(sorted(everything)[:12]))
    assert chosen({"bolt": everything[::-1]})["bolt"] == bolt
    assert chosen({"bolt": everything}, 100)["bolt"][:12] == bolt
    both = chosen({"bolt": everything[:30], "nut": everything[20:]})
    assert (
        both["bolt"]
        == [name for name in chosen({"bolt": everything}, 100)["bolt"] if name in everything[:30]][
            :12
        ]
    )
    assert set(both["nut"]) <= set(everything[20:])
    found = choose(
        replace(config, input=(listed(images, {"bolt": everything}),)).score_config(), 12
    )
    assert (found["bolt"].num_images, len(found["bolt"].rows)) == (40, 12)


def test_what_can_not_work_is_one_sentence_and_nothing_is_written(
    config: BuildReferencesConfig, tmp_path: Path
) -> None:
    write(tmp_path / "images" / "bolt", parts(0, range(2)))
    (tmp_path / "empty").mkdir()
    for changes, words in (
        ({"input": (f"{tmp_path}/nowhere",)}, "an input can't be listed"),
        ({"input": (f"{tmp_path}/empty",)}, "there is no image below"),
        ({"checkpoint": "/nowhere/model.pth"}, "no such file"),
        ({"output": "/proc/nothing/here"}, "the output can't be"),
        ({"num_actors": 3}, "lower --num-actors"),
    ):
        with pytest.raises(CannotRunError, match=words):
            made(config, **changes)
    assert not (tmp_path / "references" / "references.json").exists()


def test_references_of_another_model_are_not_added_to(
    config: BuildReferencesConfig, tmp_path: Path
) -> None:
    write(tmp_path / "images" / "bolt", parts(0, range(2)))
    entry = CatalogueEntry(
        id="0" * 16,
        sha256="0" * 64,
        unlabelled=False,
        num_images=1,
        num_looks=1,
        num_looked_at=1,
        abnormal_share=0.0,
        created="2026-11-28T20:00:00+00:00",
    )
    written = Catalogue(model="another-model", sets={"bolt": entry})
    write_catalogue(config.output, written)
    with pytest.raises(CannotRunError, match="was made for the model another-model, this one is"):
        made(config, add=True)
    (tmp_path / "references" / "references.json").write_text("{}")
    with pytest.raises(CannotRunError, match=r"references\.json is damaged"):
        made(config)


def test_two_jobs_do_not_write_to_one_folder(config: BuildReferencesConfig, tmp_path: Path) -> None:
    write(tmp_path / "images" / "bolt", parts(0, range(2)))
    with (
        OutputLock(config.output, run_id="another"),
        pytest.raises(CannotRunError, match="the output can't be written"),
    ):
        made(config)
    assert read_catalogue(config.output) is None
