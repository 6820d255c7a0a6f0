"""What tiles find in large frames, and what they cost, with the small model.

No Ray; frames are generated. A frame and its damaged copies differ in a few tiles, and only those
are scored again.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit

from pipeline.anomaly_map import render
from pipeline.config import BenchmarkConfig, ModelSpec
from pipeline.distributed.predictor import Predictor
from pipeline.distributed.reader import read_images
from pipeline.distributed.scorer import AnomalyScorer
from pipeline.distributed.stitching import Stitcher
from pipeline.evaluation.pixels import PixelHistogram
from pipeline.evaluation.ranking import image_metrics
from pipeline.images.tiles import cut
from pipeline.packaged import IMAGE_SIZE, SMALL_MODEL
from pipeline.schema import MANIFEST_SCHEMA
from pipeline.storage import absolute, stat
from pipeline.synthetic import Sample
from pipeline.synthetic.frames import generate_frame
from pipeline.tiling import WHOLE, Layout, Tiling

from .reference_sets import actor_arguments, default_batch_size, in_parts
from .timing import Stopwatch, conditions, median_s, rounded

CATEGORIES = ("metal plate", "leather")
FRAMES = 4  # of each category
FRAME = 4_096  # pixels
DEFECTS = (8, 12, 16, 24, 40)  # pixels
COVERED = (1, 2)  # pixels of the original for each of a tile's
MEASURED = 1_024  # side in pixels of maps and masks
TOP_SHARE = 0.001  # of the map's values
PATCH = 8  # pixels, of the small model
SIDE = IMAGE_SIZE // PATCH


class Seen(NamedTuple):
    """What the model says of the tiles of one frame."""

    logits: NDArray[np.float32]
    """[n] of the tiles' scores."""
    grid: NDArray[np.floating]
    """[h, w] of the whole map."""


def measure_tiles(
    config: BenchmarkConfig, *, frame: int = FRAME, defects: Sequence[int] = DEFECTS
) -> dict[str, list[dict[str, Any]]]:
    """Frames seen whole, in tiles, and cut by hand into parts that do not overlap.

    Returns:
        Rows by table: "finding" (metrics are means over the categories) and "cost".
    """
    how, batch_size = actor_arguments(config, ModelSpec(**SMALL_MODEL)), default_batch_size(config)
    count = (config.num_images or (FRAMES,))[0]
    ways = {"whole": Layout(SIDE, (0,), (0,))}
    for covered in COVERED:
        size = covered * IMAGE_SIZE
        ways[f"tiles of {size}"] = Tiling(64, size).layout(frame, frame, side=SIDE)
        starts = tuple(range(0, frame // covered // PATCH - SIDE + 1, SIDE))
        ways[f"cut by hand, {size}"] = Layout(SIDE, starts, starts)
    look = _Look(Predictor(**how), batch_size)
    found: list[dict[str, Any]] = []
    for category in CATEGORIES:
        frames = (generate_frame(category, i, defects, frame=frame) for i in range(count))
        found += _finding(look, category, frames, ways, defects)
    return {"finding": _means(found), "cost": _cost(how, batch_size, config.num_steps, frame)}


class _Look:
    """The model on tiles, which it remembers of a frame's good copy."""

    def __init__(self, predictor: Predictor, batch_size: int) -> None:
        self._predictor, self._batch_size = predictor, batch_size

    def __call__(
        self, image: NDArray[np.uint8], category: str, layout: Layout, known: dict[bytes, Any]
    ) -> Seen:
        tiles = list(cut(Image.fromarray(image), layout, PATCH))
        names = [tile.tobytes() for tile in tiles]
        new = [i for i, name in enumerate(names) if name not in known]
        for part in (new[i : i + self._batch_size] for i in range(0, len(new), self._batch_size)):
            pixels = np.stack([tiles[i] for i in part])
            scored = self._predictor.score(pixels, [category] * len(part), [("", "")] * len(part))
            if scored is None or not scored.fits.all():
                raise MemoryError("the device has no memory for one tile")
            found = zip(part, scored.score_logit, scored.grid, strict=True)
            known |= {names[i]: (logit, grid) for i, logit, grid in found}
        logits, grids = zip(*(known[name] for name in names), strict=True)
        return Seen(np.array(logits), layout.stitch(grids))


def _finding(
    look: _Look,
    category: str,
    frames: Iterator[list[Sample]],
    ways: Mapping[str, Layout],
    defects: Sequence[int],
) -> list[dict[str, Any]]:
    """Metrics of one category, by way, rule of the score, and size of the defect."""
    scores: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    pixels = {(way, size): PixelHistogram() for way in ways for size in defects}
    for samples in frames:
        for way, layout in ways.items():
            known: dict[bytes, Any] = {}
            seen = [look(sample.image, category, layout, known) for sample in samples]
            whole = look(samples[0].image, category, ways["whole"], {})
            for size, each, sample in zip((0, *defects), seen, samples, strict=True):
                for rule, value in _rules(each, float(whole.logits[0])).items():
                    scores[way, rule, size].append(value)
                found = (render(each.grid, MEASURED), _mask(sample.mask))
                for other in defects if size == 0 else (size,):
                    pixels[way, other].add(*found)
    rows = []
    for way, rule, size in scores:
        if size:
            good, bad = scores[way, rule, 0], scores[way, rule, size]
            labels = np.array([0] * len(good) + [1] * len(bad))
            row = {"way": way, "score": rule, "defect_px": size, "frames": len(labels)}
            metrics = image_metrics(np.array(good + bad), labels)
            if rule == _HIGHEST:  # maps are the same whatever the rule
                metrics |= pixels[way, size].metrics()
            rows.append(row | {"tiles": ways[way].num_tiles, "category": category} | metrics)
    return rows


_HIGHEST = "highest tile"


def _rules(seen: Seen, whole: float) -> dict[str, float]:
    """Ways to one score: that of the product first."""
    ordered = np.sort(expit(seen.grid).ravel())
    top = ordered[-max(1, round(TOP_SHARE * ordered.size)) :]
    highest = float(seen.logits.max())
    return {
        _HIGHEST: highest,
        "highest of the map": float(seen.grid.max()),
        "mean of the map's top 0.1 %": float(top.mean()),
        "tile + whole": highest + whole,
    }


def _mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """At the measured size; a pixel of it is defective if any below it is."""
    step = len(mask) // MEASURED
    if step * MEASURED != len(mask):
        return np.asarray(Image.fromarray(mask).resize((MEASURED, MEASURED)))
    return np.asarray(mask.reshape(MEASURED, step, MEASURED, step).any(axis=(1, 3)))


def _means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Over the categories."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["way"], row["score"], row["defect_px"]].append(row)
    names = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_aupro")
    return [
        {
            **{name: each[0][name] for name in ("way", "score", "defect_px", "tiles")},
            "frames": sum(row["frames"] for row in each),
            **{
                name: rounded(float(np.mean([row[name] for row in each])))
                for name in names
                if name in each[0]
            },
        }
        for each in groups.values()
    ]


def _cost(how: dict[str, Any], batch_size: int, repeats: int, frame: int) -> list[dict[str, Any]]:
    """A frame in tiles, in turns with the same tiles as images: read, scored and put together."""
    image = Image.fromarray(generate_frame(CATEGORIES[0], 0, (), frame=frame)[0].image)
    scorer, tiling = AnomalyScorer(**how), Tiling(64, 2 * IMAGE_SIZE)
    layout = tiling.layout(*image.size, side=SIDE)
    device = torch.device("cuda" if how["gpus"] else "cpu")
    watch, rows = Stopwatch(device), {}
    with tempfile.TemporaryDirectory() as folder:
        image.save(f"{folder}/frame.png")
        for number, tile in enumerate(cut(image, layout, PATCH)):
            Image.fromarray(tile).save(f"{folder}/tile-{number:05d}.png")
        files = sorted(Path(folder).iterdir())
        ways = {"in tiles": (files[:1], tiling), "as images": (files[1:], WHOLE)}
        for turn in range(1 + repeats):
            for way, (paths, each) in ways.items():
                rows[way] = watch(way, partial(_scored, scorer, _manifest(paths), each, batch_size))
            if turn == 0:
                watch.clear()
    seconds = {way: median_s(watch[way], device) for way in ways}
    return [
        {
            "way": way,
            "images": len(ways[way][0]),
            "rows": rows[way],
            "tiles": layout.num_tiles,
            "s": seconds[way],
            "ratio": rounded(seconds[way] / seconds["as images"]),
            **conditions(device),
        }
        for way in ways
    ]


def _manifest(paths: Sequence[Path]) -> pa.Table:
    found = [stat(absolute(str(path))) for path in paths]
    blank = dict.fromkeys(MANIFEST_SCHEMA.names) | {"category": CATEGORIES[0]}
    rows = [
        blank | {"image_id": each.uri, "uri": each.uri, "etag": each.etag, "size": each.size}
        for each in found
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)


def _scored(scorer: AnomalyScorer, rows: pa.Table, tiling: Tiling, batch_size: int) -> int:
    """Number of rows that come out."""
    options: dict[str, Any] = {"image_size": IMAGE_SIZE, "max_megapixels": 100.0}
    stitcher, count = Stitcher(tiling, SIDE), 0
    for block in read_images(rows, tiling=tiling, side=SIDE, **options):
        for batch in in_parts(block, batch_size):
            count += len(stitcher.add(scorer(batch)))
    return count
