"""Training on a real local Ray: cut over workers, killed, continued, and what comes out."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import ray
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.datasets.auxiliary import read_auxiliary
from pipeline.datasets.sampling import epoch_samples
from pipeline.distributed.loading import load_model
from pipeline.distributed.training.data import plan_table, read_samples
from pipeline.distributed.training.job import (
    TrainingResult,
    TrainingStoppedError,
    WorkerResources,
    train_auxiliary,
)
from pipeline.distributed.training.state import load_state
from pipeline.errors import CannotRunError
from pipeline.models.training import compute_losses, make_optimizer, training_step
from pipeline.synthetic import generate
from tests.bucket import put
from tests.listening import on_each_line

ROOT = Path(__file__).parents[3]
BUCKET = "training"
SIZE = 56
MEAN, STD = (0.5, 0.4, 0.45), (0.25, 0.3, 0.2)
NUM_EPOCHS = 8
NUM_STEPS = 5 * NUM_EPOCHS  # 18 of the 24 images train, 4 a step: an epoch's last step has two


@pytest.fixture(scope="module")
def data(local_ray: None) -> str:
    """24 images in the generic folder layout; one abnormal one has no mask, another a black one."""
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    for category in ("metal plate", "woven fabric"):
        for defect in ("good", "stain"):
            for i in range(6):
                sample = generate(category, defect, i, 64)
                objects = {f"aux/{category}/{defect}/{i}.jpg": sample.jpeg()}
                if defect != "good" and (category, i) != ("metal plate", 0):
                    mask = sample.mask & ((category, i) != ("woven fabric", 0))
                    objects[f"aux/{category}/masks/{defect}/{i}.png"] = png(mask)
                put(BUCKET, objects)
    return f"s3://{BUCKET}/aux"


def png(mask: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def config(
    data: str, golden_files: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> TrainConfig:
    """One worker that sees four images a step, with a backbone that wants pixels of its own."""
    backbone = tmp_path_factory.mktemp("backbone") / "tiny_clip.json"
    architecture = json.loads(Path(golden_files["backbone"]).read_text())
    pixels = {"mean": MEAN, "std": STD}
    backbone.write_text(json.dumps({"model_cfg": architecture, "preprocess_cfg": pixels}))
    return TrainConfig(
        data=(data,),
        output=f"s3://{BUCKET}/out",
        backbone=str(backbone),
        backbone_weights=golden_files["backbone_weights"],
        init=golden_files["checkpoint"],
        image_size=SIZE,
        epochs=NUM_EPOCHS,
        lr=0.001,
        batch_size=4,
        num_workers=1,
        cpus_per_worker=1,
        mosaic_rate=("0.3",),
        held_out=0.25,
        checkpoint_every_steps=3,
    )


@dataclass(frozen=True)
class Reference:
    """What a plain loop over the same steps comes to, in this process and without Ray."""

    losses: list[float]
    held_out: list[float]
    weights: list[dict[str, Tensor]]
    """After each epoch."""


@pytest.fixture(scope="module")
def reference(config: TrainConfig) -> Reference:
    """Torch runs on one thread here, as it does in the workers of one CPU."""
    rates = config.mosaic_rate
    table = read_auxiliary(config.data, mosaic_rates=rates, held_out=config.held_out).rows
    rows, held_out = (table.filter(pc.equal(table["held_out"], value)) for value in (False, True))
    groups = list(zip(rows["dataset"].to_pylist(), rows["category"].to_pylist(), strict=True))
    model = load_model(config.model_spec)
    optimizer = make_optimizer(model, lr=config.lr)
    losses, measured, weights = [], [], []
    for epoch in range(NUM_EPOCHS):
        rates = rows["mosaic_rate"].to_pylist()
        samples = epoch_samples(groups, rates, seed=config.seed, epoch=epoch)
        for first in range(0, len(samples), 4):
            batch = tensors(rows, samples[first : first + 4])
            losses.append(training_step(model, optimizer, *batch[:4], has_mask=batch[4]).loss)
        with torch.no_grad():
            parts = [tensors(held_out, [(i,)]) for i in range(len(held_out))]
            each = [compute_losses(model, *p[:4], has_mask=p[4])[0].sum() for p in parts]
        measured.append(float(torch.stack(each).mean()))
        weights.append({k: v.clone() for k, v in model.learnable_state().items()})
    return Reference(losses, measured, weights)


def tensors(
    rows: pa.Table, samples: list[tuple[int, ...]]
) -> tuple[Tensor, list[str], Tensor, Tensor, Tensor]:
    """What ``training_step`` takes of some samples."""
    plan = plan_table(rows, samples)
    plan = plan.add_column(0, "position", pa.array(range(len(plan))))
    read = pa.concat_tables(read_samples(plan, image_size=SIZE, max_megapixels=1.0)).to_pylist()
    pixels = np.stack([np.frombuffer(s["pixels"], np.uint8).reshape(SIZE, SIZE, 3) for s in read])
    masks = np.stack([np.frombuffer(s["mask"], np.uint8).reshape(SIZE, SIZE) for s in read])
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255.0 - mean) / std
    labels = torch.tensor([s["label"] for s in read])
    has_mask = torch.tensor([s["has_mask"] for s in read])
    return images, [s["category"] for s in read], labels, torch.from_numpy(masks), has_mask


def read(output: str, name: str) -> bytes:
    key = f"{output.removeprefix(f's3://{BUCKET}/')}/{name}"
    body: bytes = boto3.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return body


def losses(output: str) -> list[float]:
    rows = list(csv.DictReader(io.StringIO(read(output, "metrics.csv").decode())))
    assert [int(row["step"]) for row in rows] == list(range(1, NUM_STEPS + 1))
    return [float(row["loss"]) for row in rows]


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds; pytest's timeout ends what never does."""
    while not condition():
        time.sleep(0.05)


def workers() -> list[int]:
    """The training processes below this test's own Ray."""
    return [pid for pid, name in processes().items() if "RayTrainWorker" in name]


def processes() -> dict[int, str]:
    """Those of this test's own Ray that do something, with what they say of it."""
    found = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            if title.startswith("ray::") and "IDLE" not in title and is_below(pid):
                found[pid] = title.strip("\0")
    return found


def those_with_pytorch() -> list[str]:
    found = []
    for pid, title in processes().items():
        with suppress(OSError):
            if "libtorch_cpu" in Path(f"/proc/{pid}/maps").read_text():
                found.append(title)
    return found


def is_below(pid: int) -> bool:
    try:
        while pid > 1 and pid != os.getpid():
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return False
    return pid == os.getpid()


def as_flags(config: TrainConfig) -> list[str]:
    default = TrainConfig(data=config.data, output=config.output)
    flags = ["--data", *config.data, "--output", config.output]
    for name, value in vars(config).items():
        if value != getattr(default, name):
            shown = value[0] if isinstance(value, tuple) else value
            flags += [f"--{name.replace('_', '-')}", str(shown)]
    return flags


@pytest.fixture(scope="module")
def continued(config: TrainConfig) -> TrainingResult:
    """The result of a run whose driver was killed, and then, continued, one of its workers."""
    address = ray.get_runtime_context().gcs_address
    flags = [*as_flags(config), "--address", address]
    with subprocess.Popen([sys.executable, "jobs/train_auxiliary.py", *flags], cwd=ROOT) as driver:
        wait_for(lambda: load_state(config.output).step > 0 or driver.poll() is not None)
        assert driver.poll() is None, "it should go on until it is killed"
        driver.kill()
    wait_for(lambda: not workers())
    reached = load_state(config.output).step
    assert 0 < reached < NUM_STEPS

    loaded: list[str] = []

    def kill_a_worker() -> None:
        wait_for(lambda: load_state(config.output).step > reached)
        loaded.extend(those_with_pytorch())
        os.kill(workers()[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_a_worker, daemon=True)
    killer.start()
    told: list[str] = []
    with on_each_line(told.append):
        result = train_auxiliary(config)
    killer.join()
    assert ["RayTrainWorker" in title for title in loaded] == [True], loaded
    assert any(f"going on after step {reached}" in line for line in told)
    assert any("the data: 1 abnormal images have an empty mask" in line for line in told)
    return result


def test_a_run_killed_twice_reaches_the_weights_of_an_unbroken_one(
    config: TrainConfig, continued: TrainingResult, reference: Reference
) -> None:
    """Bit by bit."""
    assert continued.state.step == NUM_STEPS
    for name, value in reference.weights[-1].items():
        assert torch.equal(continued.state.weights[name], value), name
    assert losses(config.output) == reference.losses
    held_out = [record.held_out_loss for record in continued.state.epochs]
    assert held_out == pytest.approx(reference.held_out, rel=1e-5)


def test_a_run_leaves_weights_metrics_logs_and_a_card(
    config: TrainConfig, continued: TrainingResult, reference: Reference
) -> None:
    best = 1 + reference.held_out.index(min(reference.held_out))
    assert continued.epoch == best
    for name in ("adaclip.pth", "adaclip.safetensors"):
        model = load_model(replace(config.model_spec, checkpoint=f"{config.output}/{name}"))
        assert model.fingerprint() == continued.model
        for key, value in model.learnable_state().items():
            assert torch.equal(value, reference.weights[best - 1][key])
    record = continued.state.epochs[best - 1]
    fitted = (record.score_scale, record.score_shift)
    assert model.score_calibration == (fitted if record.score_scale else None)
    assert record.image_auroc is not None
    assert 0 <= record.image_auroc <= 1
    card = read(config.output, "model_card.md").decode()
    assert f" {100 * record.image_auroc:.1f} ± " in card
    assert "| aux | 12 | 12 | 1 | 6 | 0.3 | metal plate, woven fabric |" in card
    assert continued.model in card
    assert f"Epoch {best} of {NUM_EPOCHS} was kept" in card
    assert f"- 1 abnormal images have an empty mask, such as {config.data[0]}/woven fabric" in card
    lost = f"{config.data[0]}/woven fabric/stain/0.jpg: the mask is black\n"
    assert read(config.output, "lost_masks.txt").decode() == lost
    listed = boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="out/tensorboard/")
    events = [read(config.output, o["Key"].removeprefix("out/")) for o in listed["Contents"]]
    for tag in (b"train/grad_text_prompts", b"epoch/pixel_ap", b"held_out/0"):
        assert any(tag in each for each in events), tag


def test_two_workers_make_the_run_of_one_and_stop_together_at_a_broken_file(
    config: TrainConfig, reference: Reference, continued: TrainingResult
) -> None:
    two = replace(config, num_workers=2, batch_size=2, output=f"s3://{BUCKET}/two")
    key = "aux/metal plate/stain/3.jpg"
    whole = boto3.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    put(BUCKET, {key: whole[:200]})
    with pytest.raises(TrainingStoppedError, match=f"{BUCKET}/{key}"):
        train_auxiliary(two)
    assert load_state(two.output).step < 5
    put(BUCKET, {key: whole})
    result = train_auxiliary(two)
    assert losses(two.output) == pytest.approx(reference.losses, rel=1e-3)
    figures = [record.image_auroc for record in result.state.epochs]
    assert figures == [record.image_auroc for record in continued.state.epochs], "of all workers"
    for name, value in reference.weights[-1].items():
        torch.testing.assert_close(result.state.weights[name], value, rtol=0, atol=1e-4)


def test_a_run_that_gets_no_better_stops(config: TrainConfig) -> None:
    told: list[str] = []
    with on_each_line(told.append):
        worse = replace(config, lr=1.0, patience=1, output=f"s3://{BUCKET}/worse", num_clusters=2)
        result = train_auxiliary(worse)
    epochs = len(result.state.epochs)
    assert epochs < NUM_EPOCHS
    assert result.epoch == epochs - 1
    assert any(f"stopped after epoch {epochs} of {NUM_EPOCHS}" in line for line in told)
    assert [line for line in told if "starting the workers" in line] == ["starting the workers"]
    assert any("the workers are training, " in line for line in told)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dice": "rows"}, "dice is 'defects' there and 'rows' here"),
        ({"lr": 0.02}, "holds a run with other settings: lr is 0.001 there and 0.02 here"),
        ({"batch_size": 3}, "images per step is 4 there and 3 here"),
        ({"held_out": 0.0}, "held_out is 0.25 there and 0.0 here"),
        ({"epochs": NUM_EPOCHS - 1}, "has done 8 already"),
        ({"data": (f"s3://{BUCKET}/nothing",)}, "nothing"),
        ({"mosaic_rate": ("mvtec=2",)}, "must be NAME=RATE"),
        ({"num_workers": 3}, "lower --num-workers"),
        ({"gpus_per_worker": 1.0, "num_workers": None}, "the Ray cluster has 0"),
    ],
)
def test_what_cannot_work_is_one_sentence_before_any_training(
    config: TrainConfig, continued: TrainingResult, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(CannotRunError, match=words):
        train_auxiliary(replace(config, **change))
    assert load_state(config.output).step == NUM_STEPS


def test_a_model_that_does_not_exist_is_one_sentence_too_and_claims_no_output(
    config: TrainConfig,
) -> None:
    """So the same command with the model put right can have it."""
    mistyped = replace(config, init="/nowhere/model.pth", output=f"s3://{BUCKET}/mistyped")
    with pytest.raises(CannotRunError, match="no such file"):
        train_auxiliary(replace(mistyped, num_workers=2, batch_size=2))
    listed = boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="mistyped/")
    assert [o["Key"] for o in listed["Contents"]] == [
        "mistyped/data.parquet",
        "mistyped/remarks.json",
    ]


@pytest.mark.parametrize(
    ("cluster", "settings", "expected"),
    [
        ({"CPU": 16}, {}, WorkerResources(1, 0, 15)),
        ({"CPU": 2}, {}, WorkerResources(1, 0, 1)),
        ({"CPU": 2}, {"num_workers": 2}, WorkerResources(2, 0, 0.75)),
        ({"CPU": 16, "GPU": 8}, {}, WorkerResources(8, 1, 1)),
        ({"CPU": 8, "GPU": 8}, {}, WorkerResources(8, 1, 0.93)),
        ({"CPU": 8, "GPU": 1}, {"gpus_per_worker": 0.0}, WorkerResources(1, 0, 7)),
        ({"CPU": 2}, {"gpus_per_worker": 1.0, "num_workers": 4}, WorkerResources(4, 1, 1)),
    ],
)
def test_workers_leave_a_reader_its_cpu(
    cluster: dict[str, float], settings: dict[str, Any], expected: WorkerResources
) -> None:
    config = TrainConfig(data=("data",), output="out", **settings)
    assert WorkerResources.plan(config, cluster) == expected
