"""Names of models: right, whatever was met before, and without a load where one was."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from pipeline.config import ScoreConfig
from pipeline.distributed.fingerprints import fingerprint
from pipeline.distributed.loading import load_model
from pipeline.distributed.scoring import score_bucket
from pipeline.errors import CannotRunError
from pipeline.models import load_adaclip, save_checkpoint
from tests import golden
from tests.bucket import jpeg, put

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The driver's cache, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def config(golden_files: dict[str, str], tmp_path: Path, cache: Path) -> ScoreConfig:
    """The golden model, its checkpoint in a file of its own."""
    (tmp_path / "images" / "bolt").mkdir(parents=True)
    (tmp_path / "images" / "bolt" / "0.jpg").write_bytes(jpeg(0))
    write_weights(tmp_path / "mine.pth", seed=1)
    return ScoreConfig(
        input=(str(tmp_path / "images"),),
        output=str(tmp_path / "scores"),
        image_size=golden.IMAGE_SIZE,
        **{**golden_files, "checkpoint": str(tmp_path / "mine.pth")},  # type: ignore[arg-type]
    )


@pytest.fixture
def no_load(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, no model can be loaded in a task."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a Ray task was made")

    return lambda: monkeypatch.setattr(ray, "remote", refuse)


def write_weights(path: Path, seed: int) -> None:
    save_checkpoint(load_adaclip(backbone=golden.BACKBONE, backbone_weights=None, seed=seed), path)


def replace_weights(path: Path) -> None:
    """By others of the same size, as young as those that were there."""
    before = path.stat()
    write_weights(path, seed=2)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def loaded(config: ScoreConfig) -> str:
    return load_model(config.model_spec).fingerprint()


def test_a_model_met_before_is_named_without_a_load(
    config: ScoreConfig, no_load: Callable[[], None]
) -> None:
    first = fingerprint(config)
    assert first == loaded(config)
    no_load()
    assert fingerprint(config) == first
    assert fingerprint(replace(config, decoder="fast")) == f"{first}-fast-decoder"
    with pytest.raises(AssertionError, match="a Ray task was made"):
        fingerprint(replace(config, num_clusters=3))


def test_other_weights_in_the_same_file_have_another_name(config: ScoreConfig) -> None:
    first = fingerprint(config)
    replace_weights(Path(config.checkpoint))
    assert fingerprint(config) == loaded(config) != first


def test_a_replaced_object_has_another_name(
    config: ScoreConfig, bucket: str, no_load: Callable[[], None]
) -> None:
    checkpoint = Path(config.checkpoint)
    put(bucket, {"mine.pth": checkpoint.read_bytes()})
    remote = replace(config, checkpoint=f"s3://{bucket}/mine.pth")
    first = fingerprint(remote)
    assert first == loaded(config)
    replace_weights(checkpoint)
    put(bucket, {"mine.pth": checkpoint.read_bytes()})
    assert fingerprint(remote) == loaded(config) != first
    no_load()
    assert fingerprint(remote) == loaded(config)


def test_what_can_not_be_loaded_is_told_every_time(config: ScoreConfig, cache: Path) -> None:
    for _ in range(2):
        with pytest.raises(CannotRunError, match=r"blank\.pth.*no such file"):
            fingerprint(replace(config, checkpoint="blank.pth"))
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_home_that_can_not_be_written_to_is_no_reason_to_end(
    config: ScoreConfig, cache: Path
) -> None:
    cache.write_bytes(b"not a folder")
    assert fingerprint(config) == loaded(config)


def test_a_wrong_name_ends_a_run_and_no_more_than_one(config: ScoreConfig, cache: Path) -> None:
    """As of released weights that were published anew."""
    right = fingerprint(config)
    [kept] = [path for path in cache.rglob("*") if path.is_file()]
    kept.write_text("another")
    with pytest.raises(ray.exceptions.RayError, match="the weights changed since the run began"):
        score_bucket(config)
    assert not (Path(config.output) / "scores").exists()
    report = score_bucket(config)
    assert (report.status, report.model, report.scored) == ("done", right, 1)
