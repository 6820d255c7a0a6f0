"""``adaclip demo``: generated photographs, scored with the small model."""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline import command
from pipeline.config import DemoConfig, ScoreConfig

GOES_ON = "the same command goes on from here"
PARTS = {"metal nut": "gear", "plug": "connector"}  # class names, and what is drawn for them
NUM_GOOD = 9  # of each part
DEFECTS = ("scratch", "hole", "stain")
SIZE = 320  # pixels

_log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Draw, score, show; returns the exit code."""
    return command.run(lambda: parse(arguments), work, goes_on=GOES_ON)


def parse(arguments: list[str] | None = None) -> DemoConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return command.parse(DemoConfig, "demo", arguments)


def work(config: DemoConfig) -> int:
    """Draw, score, show; returns the exit code."""
    from .score import score

    folder = Path(config.folder)
    draw(folder / "photos")
    _log.info(f"adaclip score --input {folder}/photos --output {folder}/scores --model small")
    scoring = ScoreConfig(
        input=(str(folder / "photos"),),
        output=str(folder / "scores"),
        model="small",
        address=config.address,
    )
    if code := score(scoring):
        return code
    print(f"picture: {show(folder)}")
    return command.DONE


def draw(folder: Path) -> None:
    """Photographs of a production line for each part, those that are not there yet."""
    from PIL import Image

    from pipeline.synthetic import generate_line

    for name, product in PARTS.items():
        for number, defect in enumerate(["good"] * NUM_GOOD + [*DEFECTS]):
            path = folder / name / f"{number:02d}-{defect}.png"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                drawn = generate_line(product, 0, number, defect, size=SIZE)
                Image.fromarray(drawn.image).save(path)


def show(folder: Path) -> Path:
    """A picture of the most anomalous photograph, with its map."""
    from pipeline.results import open_results

    results, path = open_results(str(folder / "scores")), folder / "most_anomalous.png"
    results.overlay(results.top(1).iloc[0]).save(path)
    return path
