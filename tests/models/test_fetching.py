"""Weights by URI and by released name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from pipeline.models import AdaCLIP, load_checkpoint
from pipeline.models import checkpoint as checkpoint_module
from pipeline.models.checkpoint import fetch
from tests import golden

pytestmark = pytest.mark.usefixtures("cache")

Files = Mapping[str, str]


def test_weights_load_from_file_uris(golden_files: Files, model: AdaCLIP) -> None:
    uris = {k: f"file://{golden_files[k]}" for k in ("backbone_weights", "checkpoint")}
    assert golden.load({**golden_files, **uris}).fingerprint() == model.fingerprint()


def test_a_uri_is_downloaded_once_into_the_cache(cache: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/weights/once.pth", b"first")
    local = fetch("memory://weights/once.pth")
    assert local.read_bytes() == b"first"
    assert local.is_relative_to(cache / "adaclip-pipeline")
    assert local.name == "once.pth"
    local.write_bytes(b"from the cache")
    again = fetch("memory://weights/once.pth")
    assert again == local
    assert again.read_bytes() == b"from the cache"
    assert [path for path in cache.rglob("*") if path.is_file()] == [local]


def test_a_replaced_object_is_downloaded_again() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/weights/twice.pth", b"first")
    assert fetch("memory://weights/twice.pth").read_bytes() == b"first"
    memory.pipe_file("/weights/twice.pth", b"second, longer")
    assert fetch("memory://weights/twice.pth").read_bytes() == b"second, longer"


def test_files_of_one_name_in_two_places_do_not_collide() -> None:
    memory = fsspec.filesystem("memory")
    for folder in ("a", "b"):
        memory.pipe_file(f"/{folder}/same.pth", folder.encode())
    assert fetch("memory://a/same.pth").read_bytes() == b"a"
    assert fetch("memory://b/same.pth").read_bytes() == b"b"


@pytest.mark.parametrize(
    "uri", ["memory://missing.pth", "nosuchprotocol://x/y.pth", "file:///", "hf://only-owner"]
)
def test_a_uri_that_gives_nothing_is_named(uri: str) -> None:
    with pytest.raises(ValueError, match=uri):
        fetch(uri)


def test_storage_errors_of_any_kind_are_value_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoCredentials(Exception):
        """As botocore's, which is no OSError."""

    def refuse(*_: Any) -> None:
        raise NoCredentials("Unable to locate credentials")

    monkeypatch.setattr(fsspec.filesystem("memory"), "ukey", refuse)
    with pytest.raises(ValueError, match=r"memory://x\.pth.*Unable to locate credentials"):
        fetch("memory://x.pth")


# --- released names ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mvtec_colondb", "visa_clinicdb", "all"])
def test_a_released_file_with_other_content_is_refused(
    blank: AdaCLIP, golden_files: Files, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked: list[tuple[Any, ...]] = []

    def download(repository: str, filename: str, *, revision: str) -> str:
        asked.append((repository, filename, revision))
        return golden_files["checkpoint"]

    monkeypatch.setattr(checkpoint_module, "hf_hub_download", download)
    with pytest.raises(ValueError, match=f"not the released checkpoint '{name}'.*sha256"):
        load_checkpoint(blank, name)
    revision = "16153b4ba74c2fe54a99679fc2e1b1e29993dc3f"
    assert asked == [("cubert-gmbh/adaclip", f"pretrained_{name}.pth", revision)]


def test_a_released_file_with_the_right_content_is_loaded(
    blank: AdaCLIP, model: AdaCLIP, golden_files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = checkpoint_module.hashlib.sha256(Path(golden_files["checkpoint"]).read_bytes())
    monkeypatch.setitem(checkpoint_module.RELEASED, "all", digest.hexdigest())
    monkeypatch.setattr(
        checkpoint_module, "hf_hub_download", lambda *_, **__: golden_files["checkpoint"]
    )
    load_checkpoint(blank, "all")
    key = "cls_token_layer.head.0.weight"
    assert torch.equal(blank.learnable_state()[key], model.learnable_state()[key])


def test_offline_a_released_name_tells_what_to_do(
    blank: AdaCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: Any, **__: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr(checkpoint_module, "hf_hub_download", offline)
    with pytest.raises(ValueError, match=r"no network.*give a path"):
        load_checkpoint(blank, "all")
