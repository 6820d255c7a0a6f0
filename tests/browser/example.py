"""A realistic output without Ray: generated products, scored by the small model, night by night."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image, ImageEnhance

from pipeline.anomaly_map import Q8, quantize, summarize
from pipeline.identity import ModelIdentity
from pipeline.images import preprocess
from pipeline.models import AdaCLIP, load_adaclip
from pipeline.nightly.alerts import AlertRule
from pipeline.nightly.reviewing import review_run
from pipeline.output.writer import ResultWriter
from pipeline.packaged import IMAGE_SIZE, SMALL_MODEL
from pipeline.report.summary import RunReport
from pipeline.schema import scored_schema
from pipeline.storage import stat, write_object
from pipeline.synthetic import CATEGORIES, TEST_CATEGORIES, generate

DRIFTED = "woven fabric"  # in another light in the last night
BROKEN = {
    "empty.jpg": (b"", "empty", "the object has no bytes"),
    "page.jpg": (b"<html>", "not_an_image", "no known image format"),
    "cut short.jpg": (b"\xff\xd8\xff", "truncated", "the file ends within its header"),
}


def small_model() -> AdaCLIP:
    """The model that comes with the package."""
    return load_adaclip(**SMALL_MODEL)


def fill(folder: Path, dates: list[str], per_category: int, defective: int) -> str:
    """Nights of four products; in the last one, one product is in another light.

    Args:
        folder: receives images/ and scores/.
        dates: one night each.
        per_category: images of each product and night.
        defective: how many of these are damaged.

    Returns:
        The output, whose last night has been reviewed with an alert rule.
    """
    model, output = small_model(), f"{folder}/scores"
    identity = ModelIdentity(model.fingerprint())
    for night, date in enumerate(dates):
        run_id = f"{date.replace('-', '')}T020000Z-{night:06x}"
        last = night == len(dates) - 1
        rows = []
        for number, category in enumerate(TEST_CATEGORIES):
            kinds = CATEGORIES[category].defects
            for i in range(per_category):
                seed = 3_000_000 + (night * len(TEST_CATEGORIES) + number) * per_category + i
                defect = kinds[i % len(kinds)] if i < defective else "good"
                data = generate(category, defect, seed).jpeg()
                if last and category == DRIFTED:
                    data = _darker(data)
                path = folder / "images" / f"line-{number + 1}" / category / date / f"{seed}.jpg"
                rows.append(_scored(model, path, data, category))
        rows += [_failed(folder, date, name) for name in list(BROKEN)[: 1 + night % len(BROKEN)]]
        _write(output, rows, date, identity, run_id)
    rule = AlertRule(score_quantile=0.95, min_images=50)
    found = review_run(output, run_id=run_id, identity=identity, scan_date=dates[-1], rule=rule)
    write_object(f"{output}/runs/{run_id}/review.json", json.dumps(found.to_json()).encode())
    return output


def _scored(model: AdaCLIP, path: Path, data: bytes, category: str) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    found = model.predict(preprocess(data, IMAGE_SIZE)[None], [category])
    grid = found.logit_grid[0].float().numpy()
    image = Image.open(io.BytesIO(data))
    summary = summarize(grid, image.width, image.height)
    corners = ("box_x0", "box_y0", "box_x1", "box_y1")
    return {
        **_row(path, category),
        "score": float(found.score[0]),
        "map_max": summary.map_max,
        "anomalous_area": summary.anomalous_area,
        **dict(zip(corners, summary.box, strict=True)),
        "width": image.width,
        "height": image.height,
        "logit_grid_q8": quantize(grid.ravel(), Q8),
        "grid_height": grid.shape[0],
        "grid_width": grid.shape[1],
    }


def _failed(folder: Path, date: str, name: str) -> dict[str, Any]:
    data, code, message = BROKEN[name]
    path = folder / "images" / "line-3" / "capsule" / date / name
    path.write_bytes(data)
    return _row(path, "capsule") | {"error": code, "error_message": message}


def _row(path: Path, category: str) -> dict[str, Any]:
    info = stat(f"file://{path}")
    digest = hashlib.blake2b(info.uri.encode(), digest_size=16).hexdigest()
    return {"image_id": digest, "uri": info.uri, "etag": info.etag, "category": category}


def _darker(data: bytes) -> bytes:
    image = Image.open(io.BytesIO(data))
    buffer = io.BytesIO()
    ImageEnhance.Brightness(image).enhance(0.35).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _write(
    output: str, rows: list[dict[str, Any]], date: str, identity: ModelIdentity, run_id: str
) -> None:
    writer = ResultWriter(
        output=output,
        scan_date=date,
        run_id=run_id,
        identity=identity,
        write_maps=True,
        interval_s=1e9,
    )
    table = pa.Table.from_pylist(rows, schema=scored_schema())
    writer.add(table)
    writer.commit()
    report = RunReport(
        run_id=run_id, settings={"scan_date": date}, model=identity.base, status="done"
    )
    report.add(table)
    report.listed = report.pending = len(rows)
    report.seconds |= {"run": 0.11 * len(rows), "list": 0.2, "model": 2.0}
    write_object(f"{output}/runs/{run_id}/report.json", report.to_json())
