"""The picture of docs/tiles.md: a frame seen whole and in tiles. ``python -m infra.docs.tiles``.

Takes three minutes: it draws 16 megapixels and scores them twice with the small model.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.config import ScoreConfig
from pipeline.distributed.scoring import score_bucket
from pipeline.results import Results, open_results
from pipeline.results.maps import coloured
from pipeline.synthetic import Sample
from pipeline.synthetic.frames import generate_frame

TARGET = Path(__file__).parents[2] / "docs/images/tiles.webp"
CATEGORY, SEED, DEFECT, FRAME = "leather", 0, 24, 4_096
SHOWN = 400  # pixels around the defect
PANEL, GAP = 300, 8


def main() -> None:
    """Draw, score and write it."""
    sample = generate_frame(CATEGORY, SEED, (DEFECT,), frame=FRAME)[1]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / CATEGORY).mkdir()
        Image.fromarray(sample.image).save(f"{folder}/{CATEGORY}/frame.png")
        whole = ScoreConfig(
            input=(folder,), output=f"{folder}/whole", include=("*.png",), model="small", gallery=0
        )
        tiled = replace(whole, output=f"{folder}/tiled", tiles=12, tile_size=384)
        for config in (whole, tiled):
            score_bucket(config)
        panels = _panels(sample, [open_results(each.output) for each in (whole, tiled)])
    width = len(panels) * (PANEL + GAP) - GAP
    picture = Image.new("RGB", (width, PANEL), "white")
    for number, panel in enumerate(panels):
        picture.paste(panel.resize((PANEL, PANEL)), (number * (PANEL + GAP), 0))
    picture.save(TARGET, quality=85)


def _panels(sample: Sample, results: list[Results]) -> list[Image.Image]:
    """The frame, the defect's surroundings with its label, and the maps of each way there."""
    rows, columns = np.nonzero(sample.mask)
    top, left = (_start(each) for each in (rows, columns))
    box = (left, top, left + SHOWN, top + SHOWN)
    whole = Image.fromarray(sample.image)
    ImageDraw.Draw(whole).rectangle(box, outline="white", width=24)
    near = Image.fromarray(sample.image).crop(box)
    label = near.copy()
    extent = (columns.min(), rows.min(), columns.max(), rows.max())
    edges = [int(at) - start for at, start in zip(extent, (left, top) * 2, strict=True)]
    ImageDraw.Draw(label).rectangle(
        (edges[0] - 6, edges[1] - 6, edges[2] + 6, edges[3] + 6), outline="white", width=2
    )
    maps = [each.map(each.scores().iloc[0], (FRAME, FRAME)) for each in results]
    part = (slice(top, top + SHOWN), slice(left, left + SHOWN))
    return [whole, label, *(coloured(near, each[part], 0.7) for each in maps)]


def _start(places: NDArray[np.intp]) -> int:
    middle = int(places.min() + places.max()) // 2
    return min(max(middle - SHOWN // 2, 0), FRAME - SHOWN)


if __name__ == "__main__":
    main()
