"""Scorers that come up with weights in object storage and nothing on the node."""

from __future__ import annotations

from pathlib import Path

from pipeline.benchmark.cold_start import measure_start
from pipeline.benchmark.run import COLUMNS
from pipeline.benchmark.tables import table
from pipeline.config import BenchmarkConfig
from tests import golden
from tests.bucket import put


def test_two_scorers_fetch_the_weights_once(golden_files: dict[str, str], bucket: str) -> None:
    names = ("backbone_weights", "checkpoint")
    files = {name: Path(golden_files[name]) for name in names}
    put(bucket, {path.name: path.read_bytes() for path in files.values()})
    config = BenchmarkConfig(
        backbone=golden_files["backbone"],
        **{name: f"s3://{bucket}/{path.name}" for name, path in files.items()},
        image_size=golden.IMAGE_SIZE,
        num_actors=(2,),
        gpus_per_actor=0,
        num_cpus=3,
        address="local",
    )
    (found,) = measure_start(config, lambda line: None)
    assert found["num_actors"] == 2
    assert found["fetched_bytes"] == sum(path.stat().st_size for path in files.values())
    assert 0 < found["model_s"] < found["first_rows_s"]
    assert table([found], COLUMNS["start"])
