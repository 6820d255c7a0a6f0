"""A look at whether a run can succeed: yes where it can, and what is wrong where it can't."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from pipeline.config import DoctorConfig
from pipeline.distributed.doctor import Finding, examine
from tests import golden
from tests.bucket import jpeg, put
from tests.image_files import hide_extras

STEPS = ["packages", "machine", "input", "image", "output", "weights", "ray", "speed"]


@pytest.fixture(scope="module", autouse=True)
def cluster(s3: dict[str, str]) -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def config(golden_files: dict[str, str], bucket: str) -> DoctorConfig:
    put(bucket, {"in/bolt/0.txt": b"no image", "in/bolt/1.jpg": jpeg(0)})
    return DoctorConfig(
        **golden_files,
        image_size=golden.IMAGE_SIZE,
        input=(f"s3://{bucket}/in",),
        output=f"s3://{bucket}/out",
        images=1e6,
    )


def found(config: DoctorConfig) -> dict[str, Finding]:
    return {each.name: each for each in examine(config)}


def test_where_all_is_there_every_line_is_a_yes(config: DoctorConfig) -> None:
    all_of_it = found(config)
    assert list(all_of_it) == STEPS
    assert [name for name, each in all_of_it.items() if not each.ok] == []
    assert "2 objects below" in all_of_it["input"].text
    assert 'the model is told "bolt" (s3://' in all_of_it["image"].text
    assert "0.txt can't be used: not_an_image" in all_of_it["image"].text
    assert "s per image on 2 CPU threads; 1,000,000 images take" in all_of_it["speed"].text
    assert "out can be written" in all_of_it["output"].text
    assert all(each.line().split()[1] == "yes" for each in all_of_it.values())


def test_extras_that_are_not_there_are_told_and_are_no_fault(
    config: DoctorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "without" not in next(examine(config)).text
    hide_extras(monkeypatch, "dicom")
    packages = next(examine(config))
    assert packages.ok
    assert packages.text.endswith("; without [dicom] (docs/inputs.md)")


def test_what_is_missing_is_told_and_hides_nothing_else(
    config: DoctorConfig, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    wrong = replace(
        config,
        input=("s3://no-such-bucket/in",),
        output=str(tmp_path / "file" / "out"),
        checkpoint="/nowhere/x.pth",
        num_actors=3,
    )
    all_of_it = found(wrong)
    assert [name for name, each in all_of_it.items() if each.ok] == ["packages", "machine"]
    assert "no-such-bucket" in all_of_it["input"].text
    assert "--checkpoint /nowhere/x.pth: there is no such file" in all_of_it["weights"].text
    assert "lower --num-actors or add CPUs" in all_of_it["ray"].text
    assert all_of_it["weights"].line().split()[1] == "NO"


def test_without_input_and_output_only_the_rest_is_looked_at(
    config: DoctorConfig, tmp_path: Path
) -> None:
    assert list(found(replace(config, input=(), output=None))) == [
        *("packages", "machine", "weights", "ray", "speed"),
    ]
    new = tmp_path / "new"
    assert found(replace(config, input=(), output=str(new)))["output"].ok
    assert not new.exists(), "nothing is left behind"
