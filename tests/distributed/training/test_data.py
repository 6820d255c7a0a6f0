"""What the readers make of a plan, and how steps are cut over workers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.distributed.training.data import plan_table, read_samples, sample_schema, step_part
from pipeline.schema import LABELLED_SCHEMA

SIZE = 8


def png(value: int, size: tuple[int, int] = (4, 4)) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, value).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def rows(tmp_path: Path) -> pa.Table:
    """Two good images, one with a mask that is all defect, one whose mask is unknown."""
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(png(60 * i))
    (tmp_path / "mask.png").write_bytes(png(255))
    masks, labels = [None, None, f"{tmp_path}/mask.png", None], [0, 0, 1, 1]
    return pa.Table.from_pylist(
        [
            {
                "uri": f"file://{tmp_path}/{i}.png",
                "mask_uri": mask and f"file://{mask}",
                "label": label,
                "category": "bolt",
                "split": "test",
            }
            for i, (mask, label) in enumerate(zip(masks, labels, strict=True))
        ],
        schema=LABELLED_SCHEMA,
    )


def read(rows: pa.Table, samples: list[tuple[int, ...]], **limits: Any) -> list[dict[str, Any]]:
    plan = plan_table(rows, samples)
    plan = plan.add_column(0, "position", pa.array(range(len(plan)), pa.int64()))
    arguments = {"image_size": SIZE, "max_megapixels": 1.0, **limits}
    tables = list(read_samples(plan, **arguments))
    assert all(table.schema == sample_schema(SIZE) for table in tables)
    return [row for table in tables for row in table.to_pylist()]


def test_samples_keep_the_plans_order(rows: pa.Table) -> None:
    samples = read(rows, [(3,), (0,), (2,), (1,)])
    assert [s["position"] for s in samples] == [0, 1, 2, 3]
    assert [s["pixels"][0] for s in samples] == [180, 0, 120, 60]
    assert [s["label"] for s in samples] == [1, 0, 1, 0]
    assert [s["has_mask"] for s in samples] == [False, True, True, True]
    assert [sum(s["mask"]) for s in samples] == [0, 0, SIZE * SIZE, 0]


def test_a_mosaic_is_abnormal_where_one_tile_is(rows: pa.Table) -> None:
    (sample,) = read(rows, [(0, 2, 1, 0)])
    pixels = np.frombuffer(sample["pixels"], np.uint8).reshape(SIZE, SIZE, 3)
    mask = np.frombuffer(sample["mask"], np.uint8).reshape(SIZE, SIZE)
    assert [pixels[y, x, 0] for y, x in ((0, 0), (0, 7), (7, 0), (7, 7))] == [0, 120, 60, 0]
    assert mask[:4, 4:].all()
    assert mask.sum() == 16
    assert (sample["label"], sample["has_mask"]) == (1, True)
    (unknown,) = read(rows, [(0, 2, 1, 3)])
    assert (unknown["label"], unknown["has_mask"]) == (1, False)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("0.png", b"", "no bytes"),
        ("0.png", png(0, (2000, 2000)), "the limit is 1 megapixels"),
        ("2.png", None, "2.png"),
        ("mask.png", b"no mask", "mask.png: the mask can't be decoded"),
        ("mask.png", png(255, (5, 4)), "mask.png: the mask has 5 x 4 pixels"),
    ],
)
def test_what_cannot_be_read_is_named(
    rows: pa.Table, tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    whole, broken = read(rows, [(1,), (0, 1, 1, 2)])
    assert whole["error"] is None
    assert name in broken["error"]
    assert words in broken["error"]
    assert broken["pixels"] is None


@pytest.mark.parametrize(("num_workers", "batch_size"), [(1, 4), (2, 2), (4, 1), (3, 5)])
def test_steps_cut_every_sample_to_one_worker(num_workers: int, batch_size: int) -> None:
    num_samples = 18
    steps = -(-num_samples // (num_workers * batch_size))
    parts = [
        step_part(
            step,
            worker,
            num_workers=num_workers,
            batch_size=batch_size,
            num_samples=num_samples,
        )
        for step in range(steps)
        for worker in range(num_workers)
    ]
    assert [i for part in parts for i in range(num_samples)[part]] == list(range(num_samples))


def test_an_image_whose_defect_vanishes_is_trained_on_without_its_mask(
    rows: pa.Table, tmp_path: Path
) -> None:
    scratch = np.zeros((200, 200), np.uint8)
    scratch[:, 90:92] = 255
    for name, values in (("2.png", scratch), ("mask.png", scratch)):
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "PNG")
        (tmp_path / name).write_bytes(buffer.getvalue())
    thin, in_mosaic, sound = read(rows, [(2,), (0, 1, 2, 0), (0,)])
    for sample in (thin, in_mosaic):
        assert (sample["label"], sample["has_mask"], sum(sample["mask"])) == (1, False, 0)
        (lost,) = sample["lost_masks"]
        assert lost.startswith(f"file://{tmp_path}/2.png: 100% of the defect is thinner")
    assert not sound["lost_masks"]


def test_the_masks_of_an_image_are_united(rows: pa.Table, tmp_path: Path) -> None:
    for i, part in enumerate((slice(0, 2), slice(2, 4))):
        values = np.zeros((4, 4), np.uint8)
        values[part] = 255
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "PNG")
        (tmp_path / f"part{i}.png").write_bytes(buffer.getvalue())
    table = rows.to_pylist()
    table[2]["mask_uri"] = f"file://{tmp_path}/part0.png"
    table[2]["more_mask_uris"] = [f"file://{tmp_path}/part1.png"]
    (sample,) = read(pa.Table.from_pylist(table, schema=LABELLED_SCHEMA), [(2,)])
    assert sum(sample["mask"]) == SIZE * SIZE
