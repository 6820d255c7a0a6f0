"""Evaluation on a real local Ray with the golden model, against the same sums done directly."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline.anomaly_map import Q8, dequantize, quantize, render, render_logits
from pipeline.config import EvaluateConfig
from pipeline.datasets import decode_mask
from pipeline.distributed.evaluation import pixels as measuring
from pipeline.distributed.evaluation.job import Evaluation, evaluate
from pipeline.distributed.evaluation.output import write_tables
from pipeline.errors import CannotRunError
from pipeline.evaluation import METRICS, image_metrics
from pipeline.images import preprocess
from pipeline.storage import StorageError
from tests import golden, outputs
from tests.bucket import jpeg, put
from tests.evaluation import oracle

pytestmark = pytest.mark.usefixtures("local_ray")

SIZE = (96, 64)  # width and height of the images
CATEGORIES = ("bolt", "nut")


def mask_png(seed: int, size: tuple[int, int] = SIZE) -> bytes:
    """A mask with a rectangle and, apart from it, a dot."""
    values = np.zeros(size[::-1], dtype=np.uint8)
    top, left = np.random.default_rng(seed).integers(8, 24, 2)
    values[top : top + 20, left : left + 30] = 255
    values[-6:, -6:] = 255
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def category_files(category: str, seed: int) -> dict[str, bytes]:
    """Four good and three abnormal images with masks, in MVTec AD's layout."""
    files = {}
    for i in range(7):
        defect = "good" if i < 4 else "crack"
        files[f"{category}/test/{defect}/{i}.png"] = jpeg(seed + i, SIZE)
        if defect != "good":
            files[f"{category}/ground_truth/{defect}/{i}_mask.png"] = mask_png(seed + i)
    return files


def write(root: Path, files: dict[str, bytes]) -> None:
    for key, body in files.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


@pytest.fixture(scope="module")
def config(
    golden_files: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> EvaluateConfig:
    """Measure a folder of two categories with the golden model."""
    folder = tmp_path_factory.mktemp("evaluation")
    for i, category in enumerate(CATEGORIES):
        write(folder / "parts", category_files(category, 100 * i))
    return EvaluateConfig(
        data=(str(folder / "parts"),),
        output=str(folder / "out"),
        image_size=golden.IMAGE_SIZE,
        batch_size=1,  # the last bits of a map depend on which images share its batch
        **golden_files,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def evaluation(config: EvaluateConfig, local_ray: None) -> Evaluation:
    """What the first evaluation of the folder gave; its scores stay in the output."""
    return evaluate(config)


@pytest.fixture
def existing(config: EvaluateConfig, evaluation: Evaluation, tmp_path: Path) -> EvaluateConfig:
    """Measure the scores of the first evaluation again."""
    return replace(config, scores=config.output, checkpoint=None, output=str(tmp_path / "again"))


def row(evaluation: Evaluation, category: str) -> Any:
    return evaluation.table.set_index("category").loc[category]


def direct(
    root: Path, category: str, files: dict[str, str], rendered: Any = render
) -> dict[str, float]:
    """What the evaluation has to give, in one process and without histograms."""
    model, size = golden.load(files), golden.IMAGE_SIZE
    scores, labels, maps, masks = [], [], [], []
    for path in sorted((root / category / "test").rglob("*.png")):
        pixels = torch.from_numpy(preprocess(path.read_bytes(), size)[None])
        out = model.predict(pixels, [category])
        mask = np.zeros((size, size), dtype=bool)
        if path.parent.name != "good":
            name = root / category / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
            mask = decode_mask(name.read_bytes(), size, width=SIZE[0], height=SIZE[1])
        scores.append(out.score.item())
        labels.append(int(mask.any()))
        stored = dequantize(quantize(out.logit_grid[0].numpy(), Q8), Q8)
        maps.append(rendered(stored, size, sigma=4))
        masks.append(mask)
    images = image_metrics(np.array(scores), np.array(labels))
    return images | oracle.pixel_metrics(np.array(maps), np.array(masks))


def test_metrics_are_those_of_a_direct_computation(
    config: EvaluateConfig, evaluation: Evaluation, golden_files: dict[str, str]
) -> None:
    assert evaluation.errors.empty
    assert (evaluation.num_images, evaluation.error_rate) == (14, 0)
    assert list(evaluation.table.category) == ["bolt", "nut", "average"]
    for category in CATEGORIES:
        found = row(evaluation, category)
        assert (found.images, found.abnormal, found.unusable, found.without_mask) == (7, 3, 0, 0)
        for name, expected in direct(Path(config.data[0]), category, golden_files).items():
            assert found[name] == pytest.approx(expected, abs=1e-4), name
    average = row(evaluation, "average")
    assert average.pixel_aupro == pytest.approx(evaluation.table.pixel_aupro[:2].mean())
    assert (average.images, average.abnormal) == (14, 6)


def test_maps_are_filtered_and_ranked_as_logits_where_that_is_asked_for(
    existing: EvaluateConfig, evaluation: Evaluation, golden_files: dict[str, str]
) -> None:
    again = evaluate(replace(existing, map_filter="logits"))
    assert (evaluation.map_filter, again.map_filter) == ("probabilities", "logits")
    parts = Path(existing.data[0])
    for name, expected in direct(parts, "nut", golden_files, render_logits).items():
        assert row(again, "nut")[name] == pytest.approx(expected, abs=1e-4), name
    assert row(again, "nut").pixel_ap != row(evaluation, "nut").pixel_ap
    assert row(again, "nut").image_ap == row(evaluation, "nut").image_ap
    write_tables(again, existing.output, [])
    text = (Path(existing.output) / "metrics.md").read_text()
    assert "filtered as logits" in text
    written = pd.read_csv(Path(existing.output) / "metrics.csv")
    assert set(written.map_filter) == {"logits"}


def test_existing_scores_cut_into_other_blocks_give_the_same(
    existing: EvaluateConfig, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "IMAGES_PER_BLOCK", 2)
    again = evaluate(existing)
    pd.testing.assert_frame_equal(again.table, evaluation.table, rtol=0, atol=1e-12)
    assert not (Path(existing.output) / "scores").exists()


def test_scored_images_are_not_scored_again(
    config: EvaluateConfig, evaluation: Evaluation, told: list[str]
) -> None:
    again = evaluate(config)
    assert any("nothing to score" in line for line in told)
    pd.testing.assert_frame_equal(again.table, evaluation.table)


def test_images_that_cannot_be_used_are_named_and_in_no_metric(
    config: EvaluateConfig, evaluation: Evaluation, bucket: str
) -> None:
    """Three broken ones beside the category "bolt" leave its figures as they were."""
    files = category_files("bolt", 0)
    files["bolt/test/good/broken.png"] = b"no image"
    files["bolt/test/crack/small.png"] = jpeg(50, SIZE)
    files["bolt/ground_truth/crack/small_mask.png"] = mask_png(50, (48, 32))
    files["bolt/test/crack/noise.png"] = jpeg(51, SIZE)
    files["bolt/ground_truth/crack/noise_mask.png"] = b"no mask"
    put(bucket, {f"data/parts/{key}": body for key, body in files.items()})
    data = f"s3://{bucket}/data/parts"
    found = evaluate(replace(config, data=(data,), output=f"s3://{bucket}/out"))
    assert found.error_rate == pytest.approx(3 / 10)
    errors = found.errors.set_index("uri")
    assert errors.error.to_dict() == {
        f"{data}/bolt/test/good/broken.png": "not_an_image",
        f"{data}/bolt/test/crack/small.png": "bad_mask",
        f"{data}/bolt/test/crack/noise.png": "bad_mask",
    }
    message = errors.error_message[f"{data}/bolt/test/crack/small.png"]
    assert "small_mask.png" in message
    assert "48 x 32" in message
    bolt = row(found, "bolt")
    assert (bolt.images, bolt.abnormal, bolt.unusable) == (10, 5, 3)
    pd.testing.assert_series_equal(
        bolt[list(METRICS)], row(evaluation, "bolt")[list(METRICS)], check_names=False
    )


def test_what_is_not_applicable_is_empty(existing: EvaluateConfig, tmp_path: Path) -> None:
    """Defects without masks leave the pixel metrics, classes without good images the others."""
    parts = Path(existing.data[0])
    lines = ["uri,label,mask_uri,category"]
    for category in CATEGORIES:
        for path in sorted((parts / category / "test").rglob("*.png")):
            good = path.parent.name == "good"
            mask = parts / category / "ground_truth" / "crack" / f"{path.stem}_mask.png"
            if category == "bolt":
                lines.append(f"{path},{int(not good)},,bolt")
            elif not good:
                lines.append(f"{path},1,{'' if path.stem == '6' else mask},nut")
    lines.append(f"{parts}/never/scored.png,0,,nut")
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(lines))
    found = evaluate(replace(existing, data=(f"mine={labels}",)))
    bolt, nut, average = (row(found, name) for name in ("bolt", "nut", "average"))
    assert bolt[["image_auroc", "image_ap", "image_max_f1"]].notna().all()
    assert bolt[[m for m in METRICS if m.startswith("pixel")]].isna().all()
    assert nut[["image_auroc", "image_ap", "image_max_f1"]].isna().all()
    assert nut[[m for m in METRICS if m.startswith("pixel")]].notna().all()
    assert (bolt.without_mask, nut.without_mask, nut.unusable) == (3, 1, 1)
    assert (average.image_auroc, average.pixel_ap) == (bolt.image_auroc, nut.pixel_ap)
    assert found.errors.error.tolist() == ["not_scored"]
    assert found.table.dataset.tolist() == ["mine"] * 3


def test_masks_in_which_nothing_is_left_are_counted_named_and_in_no_pixel_metric(
    config: EvaluateConfig, evaluation: Evaluation, existing: EvaluateConfig, tmp_path: Path
) -> None:
    """One mask is black; another image has two, each with a part of the defect."""
    parts, lines = Path(existing.data[0]), ["uri,label,mask_uri,category"]
    for path in sorted((parts / "nut" / "test").rglob("*.png")):
        good = path.parent.name == "good"
        mask = parts / "nut" / "ground_truth" / "crack" / f"{path.stem}_mask.png"
        if path.stem == "6":
            whole = np.asarray(Image.open(mask))
            for i, rows in enumerate((slice(0, 32), slice(32, 64))):
                values = np.zeros_like(whole)
                values[rows] = whole[rows]
                Image.fromarray(values).save(tmp_path / f"half{i}.png")
                lines.append(f"{path},1,{tmp_path}/half{i}.png,nut")
            continue
        if path.stem == "5":
            mask = tmp_path / "black.png"
            Image.new("L", SIZE).save(mask)
        lines.append(f"{path},{int(not good)},{'' if good else mask},nut")
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(lines))
    found = evaluate(replace(existing, data=(f"mine={labels}",)))
    nut = row(found, "nut")
    assert (nut.images, nut.abnormal, nut.without_mask, nut.lost_masks) == (7, 3, 1, 1)
    assert found.errors.empty
    (lost,) = found.lost_masks.to_dict("records")
    assert lost["uri"] == f"file://{parts}/nut/test/crack/5.png"
    assert "black" in lost["reason"]
    labels.write_text("\n".join(line for line in lines if "/5.png" not in line))
    without = row(evaluate(replace(existing, data=(f"mine={labels}",))), "nut")
    for name in (m for m in METRICS if m.startswith("pixel")):
        assert nut[name] == without[name]


def test_existing_scores_of_several_models_must_be_chosen_from(
    config: EvaluateConfig, evaluation: Evaluation, existing: EvaluateConfig, tmp_path: Path
) -> None:
    both = str(shutil.copytree(config.output, tmp_path / "both"))
    other = evaluate(replace(config, output=both, precision="bf16"))
    existing = replace(existing, scores=both)
    with pytest.raises(CannotRunError, match="by 2 models") as refused:
        evaluate(existing)
    models = [evaluation.table.model[0], other.table.model[0]]
    assert all(f"{model} (14 images)" in str(refused.value) for model in models)
    chosen = evaluate(replace(existing, fingerprint="float32"))
    pd.testing.assert_frame_equal(chosen.table, evaluation.table, rtol=0, atol=1e-12)
    with pytest.raises(CannotRunError, match="choose one with --fingerprint"):
        evaluate(replace(existing, fingerprint="no such"))


def test_the_papers_folders_are_measured_each_with_weights_that_never_saw_it(
    config: EvaluateConfig, evaluation: Evaluation, tmp_path: Path
) -> None:
    root = tmp_path / "sets"
    write(root / "mvtec", category_files("bolt", 0))
    write(root / "visa", {"meta.json": meta("visa"), **category_files("nut", 100)})
    config = replace(config, data=(), paper=str(root), output=str(tmp_path / "out"))
    with pytest.raises(CannotRunError, match=r"no folder of MPDD, BTAD, .*--allow-missing"):
        evaluate(config)
    found = evaluate(replace(config, allow_missing=True))
    assert found.table.dataset.tolist() == ["MVTec"] * 2 + ["VisA"] * 2 + ["average"]
    assert found.missing[:2] == ["MPDD", "BTAD"]
    assert len(found.missing) == 12
    for category in CATEGORIES:
        np.testing.assert_allclose(
            row(found, category)[list(METRICS)].astype(float),
            row(evaluation, category)[list(METRICS)].astype(float),
            atol=1e-6,
        )
    # The released files can't be fetched here; the message tells which one was wanted.
    for only, wanted in (("mvtec", "visa_clinicdb"), ("visa", "mvtec_colondb")):
        with pytest.raises(CannotRunError, match=wanted):
            evaluate(replace(config, paper=None, data=(str(root / only),), checkpoint=None))


def meta(name: str) -> bytes:
    """meta.json of the category "nut", as AdaCLIP's authors write it."""
    files = category_files("nut", 100)
    entries = [
        {
            "img_path": key,
            "mask_path": key.replace("test", "ground_truth").replace(".png", "_mask.png")
            if "crack" in key
            else "",
            "cls_name": "nut",
            "specie_name": key.split("/")[2],
            "anomaly": int("crack" in key),
        }
        for key in files
        if "/test/" in key
    ]
    return json.dumps({"train": {}, "test": {"nut": entries}}).encode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": ("/nowhere/at/all",)}, "/nowhere/at/all"),
        ({"layout": "mvtek"}, "unknown layout 'mvtek'"),
        ({"split": "train"}, "no image of the split 'train'"),
        ({"paper": "/nowhere", "allow_missing": True, "data": ()}, "none of the folders mvtec"),
        ({"scores": "/nowhere"}, "/nowhere/scores"),
        ({"image_size": 182}, "scored at 168 px; leave --image-size out"),
    ],
)
def test_what_cannot_work_is_one_sentence(
    existing: EvaluateConfig, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(CannotRunError, match=words):
        evaluate(replace(existing, **change))


def test_what_is_called_average_would_be_mistaken_in_the_table(existing: EvaluateConfig) -> None:
    with pytest.raises(CannotRunError, match="rename it"):
        evaluate(replace(existing, data=(f"average={existing.data[0]}",)))


def test_two_data_sets_of_one_name_are_refused(existing: EvaluateConfig) -> None:
    with pytest.raises(CannotRunError, match="called parts; name them"):
        evaluate(replace(existing, data=existing.data * 2))


def test_scores_without_maps_give_no_pixel_metrics_silently(
    existing: EvaluateConfig, tmp_path: Path
) -> None:
    flat = shutil.copytree(str(existing.scores), tmp_path / "flat")
    for path in (flat / "scores").rglob("*.parquet"):
        table = pq.read_table(path, partitioning=None)
        position = table.column_names.index("map_file")
        nulls = pa.nulls(len(table), pa.string())
        pq.write_table(table.set_column(position, "map_file", nulls), path)
    with pytest.raises(CannotRunError, match="14 of the scored images have no map"):
        evaluate(replace(existing, scores=str(flat)))


def test_a_lost_map_shard_is_named(existing: EvaluateConfig, tmp_path: Path) -> None:
    damaged = shutil.copytree(str(existing.scores), tmp_path / "damaged")
    (shard,) = (damaged / "maps").rglob("*.parquet")
    shard.unlink()
    with pytest.raises(StorageError, match=shard.name):
        evaluate(replace(existing, scores=str(damaged)))


def labelled_nuts(tmp_path: Path, count: int) -> EvaluateConfig:
    """Nuts, every other one abnormal, without masks, to be measured by the scores in out."""
    lines = [
        "uri,label,category",
        *(f"s3://b/in/{i}.jpg,{i % 4 // 2},nut" for i in range(0, count, 2)),
    ]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return EvaluateConfig(
        data=(f"mine={tmp_path}/labels.csv",),
        scores=f"{tmp_path}/out",
        output=f"{tmp_path}/again",
        image_size=518,
    )


def test_a_table_without_its_runs_needs_the_size_of_its_images(tmp_path: Path) -> None:
    config = labelled_nuts(tmp_path, 2)
    outputs.write(str(config.scores), [outputs.scored("s3://b/in", 0, 0.5)], "2026-01-01")
    with pytest.raises(CannotRunError, match=r"config\.json, .* give --image-size"):
        evaluate(replace(config, image_size=0))
    assert len(evaluate(config).scores) == 1


def test_scores_of_two_reference_sets_never_mix(tmp_path: Path) -> None:
    """Of four images, two were not scored again after their references were refreshed."""
    config, output = labelled_nuts(tmp_path, 8), f"{tmp_path}/out"
    for day, (references, count) in enumerate((({}, 8), ({"nut": "1"}, 8), ({"nut": "2"}, 4)), 1):
        rows = [outputs.scored("s3://b/in", i, (7 - i) / 10) for i in range(0, count, 2)]
        outputs.write(output, rows, f"2026-01-0{day}", references=references)
    found = evaluate(config)
    assert row(found, "nut").model == "m+refs-2"
    assert found.errors.error.tolist() == ["not_scored"] * 2
    named = evaluate(replace(config, fingerprint="m+refs-1"))
    assert row(named, "nut").model == "m+refs-1"
    assert len(named.scores) == 4


def test_equal_scores_are_told_apart_by_their_logits(tmp_path: Path) -> None:
    config, output = labelled_nuts(tmp_path, 8), f"{tmp_path}/out"
    rows = [outputs.scored("s3://b/in", i, 1.0) for i in range(0, 8, 2)]
    outputs.write(output, rows, "2026-01-01")
    assert row(evaluate(config), "nut").image_auroc == 0.5
    for each in rows:
        each["score_logit"] = 20.0 + ("2.jpg" in str(each["uri"])) + ("6.jpg" in str(each["uri"]))
    outputs.write(output, rows, "2026-01-02")
    assert row(evaluate(config), "nut").image_auroc == 1.0
