"""A folder of reference sets: what is written comes back, and nothing else passes for it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pipeline.identity import ModelIdentity
from pipeline.output.reference_catalogue import (
    NAME,
    Catalogue,
    CatalogueEntry,
    ReferencesError,
    ReferencesInUse,
    finished_entry,
    id_of,
    read_catalogue,
    read_set,
    write_catalogue,
    write_set,
)
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, read_object

DATA = b"the sums"
SHA256 = hashlib.sha256(DATA).hexdigest()
IMAGES = (("s3://bucket/größe-測定/a b\\udcff.png", "e-1"), ("file:///line/1.png", "17-3"))
ODD = 'a/b: c*?"<>|\n\\ größe-測定'


def entry(
    set_id: str = "0123456789abcdef", images: tuple[tuple[str, str], ...] = IMAGES
) -> CatalogueEntry:
    return CatalogueEntry(
        id=set_id,
        sha256=SHA256,
        unlabelled=True,
        num_images=2,
        num_looked_at=3,
        num_looks=2,
        abnormal_share=0.25,
        created="2026-11-28T20:00:00+00:00",
        images=images,
        unusable=(("s3://bucket/c.png", "truncated", "cut short"),),
    )


def catalogue() -> Catalogue:
    return Catalogue(model="model-1", sets={"bolt": entry(), ODD: entry("fedcba9876543210")})


def id_(category: str = "bolt", model: str = "m", *way: str | bool | None) -> str:
    return id_of(category, model, IMAGES, *way)


# --- the catalogue --------------------------------------------------------------------------


def test_a_catalogue_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_catalogue(str(tmp_path), catalogue())
    assert read_catalogue(str(tmp_path)) == catalogue()
    assert read_catalogue(f"file://{tmp_path}/") == catalogue()


def test_a_catalogue_in_a_bucket_comes_back(bucket: str) -> None:
    write_catalogue(f"s3://{bucket}/refs", catalogue())
    assert read_catalogue(f"s3://{bucket}/refs") == catalogue()


def test_a_catalogue_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_catalogue(str(tmp_path), catalogue())
    write_catalogue(str(tmp_path), Catalogue(model="model-2"))
    assert read_catalogue(str(tmp_path)) == Catalogue(model="model-2", sets={})


def test_there_may_be_no_catalogue_yet(tmp_path: Path) -> None:
    assert read_catalogue(str(tmp_path)) is None
    assert read_catalogue(f"{tmp_path}/nowhere") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[]",
        b'{"model": "m", "sets": {"bolt": {}}}',
        b'{"model": "m", "sets": [1]}',
        b'{"sets": {}}',
        b'{"model": "m", "sets": {"bolt": {"id": 5}}}',
    ],
)
def test_a_damaged_catalogue_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(ReferencesError, match=f"{tmp_path}/{NAME} is damaged: "):
        read_catalogue(str(tmp_path))


def test_a_catalogue_cut_anywhere_is_refused(tmp_path: Path) -> None:
    write_catalogue(str(tmp_path), catalogue())
    whole = (tmp_path / NAME).read_bytes().rstrip()
    for length in range(0, len(whole), 13):
        (tmp_path / NAME).write_bytes(whole[:length])
        with pytest.raises(ReferencesError, match="is damaged"):
            read_catalogue(str(tmp_path))


def test_what_is_damaged_is_told_by_its_place(tmp_path: Path) -> None:
    write_catalogue(str(tmp_path), catalogue())
    document = json.loads((tmp_path / NAME).read_text())
    del document["sets"]["bolt"]["sha256"]
    (tmp_path / NAME).write_text(json.dumps(document))
    with pytest.raises(ReferencesError, match=r"sets\.bolt\.sha256 Field required"):
        read_catalogue(str(tmp_path))


def test_another_model_is_refused_and_both_are_named() -> None:
    catalogue().check_model("model-1", "s3://b/refs")
    with pytest.raises(ReferencesError) as refused:
        catalogue().check_model("model-2", "s3://b/refs")
    for word in ("s3://b/refs", "model-1", "model-2", "jobs/build_references.py"):
        assert word in str(refused.value)
    Catalogue(model="model-1").check_model("model-2", "s3://b/refs")  # of no set


def test_no_secret_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI-K7MDENG")
    images = (
        ("https://user:hunter2hunter2@host/a.png", "1"),
        ("https://host/a.png?X-Amz-Signature=abcdef0123456789", "2"),
        ("s3://bucket/wJalrXUtnFEMI-K7MDENG.png", "3"),
    )
    secret = entry(images=images)
    write_catalogue(str(tmp_path), Catalogue(model="m", sets={"bolt": secret}))
    write_set(str(tmp_path), secret, DATA)
    written = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert len(written) == 2
    for text in written:
        for word in ("hunter2hunter2", "abcdef0123456789", "wJalrXUtnFEMI"):
            assert word not in text


# --- ids ------------------------------------------------------------------------------------


def test_the_same_images_have_the_same_id_in_any_order() -> None:
    assert id_of("bolt", "m", IMAGES) == id_of("bolt", "m", IMAGES[::-1])
    assert id_of("bolt", "m", iter([list(each) for each in IMAGES])) == id_()  # type: ignore[misc]
    assert len(id_()) == 16
    assert set(id_()) <= set("0123456789abcdef")


def test_an_id_is_the_same_in_every_process() -> None:
    """Known values: an id that moved would score every bucket again."""
    assert id_of("bolt", "m", IMAGES, False, "") == "6b4f55599cfd927b"


def test_whatever_makes_a_difference_makes_another_id() -> None:
    others = [
        id_("nut"),
        id_("bolt", "m2"),
        id_("bolt", "m", True),
        id_("bolt", "m", False),
        id_("bolt", "m", False, ""),
        id_("bolt", "m", False, "0123456789abcdef"),
        id_of("bolt", "m", IMAGES[:1]),
        id_of("bolt", "m", [IMAGES[0], (IMAGES[1][0], "17-4")]),
        id_of("bolt", "m", [IMAGES[0], ("file:///line/2.png", "17-3")]),
        id_of("bolt", "m", [*IMAGES, IMAGES[0]]),
    ]
    assert len({id_(), *others}) == len(others) + 1


def test_names_do_not_run_into_each_other() -> None:
    assert id_of("a", "bc", []) != id_of("ab", "c", [])
    assert id_of("a", "b", [("c", "de")]) != id_of("a", "b", [("cd", "e")])


# --- the sets' files ------------------------------------------------------------------------


def test_a_set_is_found_as_it_was_written(tmp_path: Path) -> None:
    write_set(str(tmp_path), entry(), DATA)
    assert finished_entry(str(tmp_path), entry().id) == entry()
    assert read_set(str(tmp_path), entry().id, SHA256) == DATA
    names = sorted(path.name for path in (tmp_path / "sets").iterdir())
    assert names == ["0123456789abcdef.json", "0123456789abcdef.safetensors"]


def test_a_changed_file_is_refused_by_its_name(tmp_path: Path) -> None:
    write_set(str(tmp_path), entry(), DATA)
    file = tmp_path / "sets" / f"{entry().id}.safetensors"
    for content in (b"the sumz", b"", DATA[:-1], DATA + b"\0"):
        file.write_bytes(content)
        with pytest.raises(ReferencesError, match=f"{entry().id}.safetensors is damaged, or not"):
            read_set(str(tmp_path), entry().id, SHA256)


def test_a_missing_file_is_an_error_of_storage(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as missing:
        read_set(str(tmp_path), entry().id, SHA256)
    assert missing.value.code == ErrorCode.NOT_FOUND


def test_a_set_that_is_not_whole_is_not_finished(tmp_path: Path) -> None:
    """A run that is killed while it writes leaves the file without its entry, or half of one."""
    assert finished_entry(str(tmp_path), entry().id) is None
    write_set(str(tmp_path), entry(), DATA)
    file = tmp_path / "sets" / f"{entry().id}.json"
    file.write_bytes(file.read_bytes()[:-20])
    assert finished_entry(str(tmp_path), entry().id) is None
    file.unlink()
    assert finished_entry(str(tmp_path), entry().id) is None


def test_an_entry_is_written_after_its_file(tmp_path: Path) -> None:
    """So where there is an entry, the set is whole; here its file can't be written."""
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / f"{entry().id}.safetensors").mkdir()
    with pytest.raises(StorageError):
        write_set(str(tmp_path), entry(), DATA)
    assert finished_entry(str(tmp_path), entry().id) is None


def test_sets_in_a_bucket_are_found(bucket: str) -> None:
    uri = f"s3://{bucket}/refs"
    write_set(uri, entry(), DATA)
    assert read_set(uri, entry().id, SHA256) == DATA
    assert finished_entry(uri, entry().id) == entry()
    assert read_object(f"{uri}/sets/{entry().id}.safetensors")[0] == DATA


# --- what scorers are told ------------------------------------------------------------------


def test_scorers_are_told_ids_and_hashes_of_all_sets() -> None:
    used = ReferencesInUse.of("s3://b/refs", catalogue())
    assert used.uri == "s3://b/refs"
    assert used.sets == {
        "bolt": ("0123456789abcdef", SHA256),
        ODD: ("fedcba9876543210", SHA256),
    }
    identity = used.identity("m")
    assert identity.of("bolt") == "m+refs-0123456789abcdef"
    assert identity.of(ODD) == "m+refs-fedcba9876543210"
    assert identity.of("nut") == identity.of(None) == "m"
    assert ReferencesInUse().identity("m") == ModelIdentity("m")
