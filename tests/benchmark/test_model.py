"""The measurement is complete and adds up; what it says about this machine is not tested."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import torch

from pipeline.benchmark.model import ModelTimings, StageCost, measure_model
from pipeline.benchmark.stages import STAGES
from pipeline.benchmark.timing import MATRIX_SIZES, Timing
from tests import golden


@pytest.fixture(autouse=True)
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MATRIX_SIZES, "cpu", (64,))


def test_a_measurement_has_all_stages_the_floor_and_what_follows(
    golden_files: Mapping[str, str],
) -> None:
    model = golden.load(golden_files)
    found = measure_model(model, batch_size=2, repeats=2)
    assert tuple(found.stages) == STAGES
    assert len(found.predict.wall_s) == len(found.stages["text"].timing.wall_s) == 2
    assert all(len(floor.wall_s) == 2 for floor in found.floors.values())
    assert found.settings["batch_size"] == 2
    document = json.loads(json.dumps(found.as_dict()))
    assert document["ratio_to_floor"] > 0
    assert document["gflops"] > document["floor_gflops"] > 0
    assert 0 < document["text_share"] < 1
    assert document["settings"]["precision"] == "float32"


def test_measuring_leaves_pytorch_as_it_was(golden_files: Mapping[str, str]) -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    measure_model(golden.load(golden_files), repeats=1)
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_bf16_is_measured_as_such(golden_files: Mapping[str, str]) -> None:
    model = golden.load(golden_files, precision="bf16", use_fusion=False)
    found = measure_model(model, repeats=1)
    assert found.settings["precision"] == "bfloat16"
    assert "fusion" not in found.stages


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"repeats": 0}])
def test_nothing_can_be_measured_with_no_image_or_round(
    golden_files: Mapping[str, str], arguments: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        measure_model(golden.load(golden_files), **arguments)


def timings(clock: str) -> ModelTimings:
    def twice(wall: float, cpu: float) -> Timing:
        return Timing((wall, wall), (cpu, cpu))

    return ModelTimings(
        settings={"batch_size": 4},
        predict=twice(2.0, 1.2),
        floors={"slow": twice(4.0, 4.0), "fast": twice(1.6, 1.0)},
        floor_flops=10,
        stages={
            "text": StageCost(twice(0.2, 0.1), 20),
            "frozen pass": StageCost(twice(1.8, 0.9), 100),
        },
        transfers={},
        matrix_peak=1000.0,
        kernels={},
        peak_memory_bytes=1,
        clock=clock,
    )


def test_ratios_go_by_the_faster_floor_and_by_one_clock() -> None:
    assert timings("wall").ratio == pytest.approx(2.0 / 1.6)
    assert timings("cpu").ratio == pytest.approx(1.2)
    assert timings("wall").images_per_s == pytest.approx(2.0)
    assert timings("cpu").flops_per_s == pytest.approx(100.0)
    assert timings("wall").text_share == pytest.approx(0.1)
