"""What an evaluation leaves: tables and pictures in its folder, a summary on the terminal."""

from __future__ import annotations

import io

import pandas as pd

from pipeline.evaluation import as_markdown, as_text, compare
from pipeline.evaluation.paper import comparisons_as_markdown, comparisons_as_text
from pipeline.evaluation.plots import draw
from pipeline.evaluation.protocols import protocols_as_markdown, protocols_as_text
from pipeline.storage import absolute, write_object
from pipeline.terminal import clean_lines

from .job import Evaluation

NUM_EXAMPLES = 5  # of unusable images, on the terminal
OF_LOGITS = (
    "Pixel metrics are of maps filtered as logits (--map-filter logits), not of probabilities as "
    "the paper's and most others': compare them with figures of the same kind only."
)


def write_plots(evaluation: Evaluation, output: str) -> list[str]:
    """Write the pictures below the output; returns the names that metrics.md shows."""
    names = []
    for name, data in draw(evaluation.table, evaluation.scores):
        write_object(f"{absolute(output)}/plots/{name}", data)
        names += [f"plots/{name}"] if name.endswith(".png") else []
    return names


def write_tables(evaluation: Evaluation, output: str, pictures: list[str]) -> None:
    """Write metrics.csv, .parquet and .md, which shows the pictures, and what was not used."""
    folder, table, protocols = absolute(output), evaluation.table, evaluation.protocols
    comparisons = comparisons_as_markdown(compare(table))
    told = _told(evaluation)
    text = f"# Metrics\n\n{told}{as_markdown(table)}\n{comparisons}\n{_missing(evaluation)}"
    text += "".join(f"\n![{name}]({name})\n" for name in pictures)
    _write(f"{folder}/metrics", table.assign(map_filter=evaluation.map_filter), text)
    if len(protocols):
        text = f"# Beside other images\n\n{told}{protocols_as_markdown(protocols)}"
        protocols = protocols.assign(map_filter=evaluation.map_filter)
        _write(f"{folder}/protocols", protocols, text)
    write_object(f"{folder}/errors.csv", evaluation.errors.to_csv(index=False).encode())
    lost = evaluation.lost_masks.to_csv(index=False)
    write_object(f"{folder}/lost_masks.csv", lost.encode())


def _write(uri: str, table: pd.DataFrame, text: str) -> None:
    """A table in three forms; the text is the one for people."""
    parquet = io.BytesIO()
    table.to_parquet(parquet, index=False)
    write_object(f"{uri}.parquet", parquet.getvalue())
    write_object(f"{uri}.csv", table.to_csv(index=False).encode())
    write_object(f"{uri}.md", text.encode())


def show(evaluation: Evaluation) -> None:
    """Print the tables and some of the images that could not be used."""
    _print(f"\n{_told(evaluation)}{as_text(evaluation.table)}")
    if comparisons := compare(evaluation.table):
        _print("\n" + comparisons_as_text(comparisons))
    if len(evaluation.protocols):
        _print("\n" + protocols_as_text(evaluation.protocols))
    if missing := _missing(evaluation):
        _print("\n" + missing)
    row: pd.Series
    for _, row in evaluation.lost_masks.head(NUM_EXAMPLES).iterrows():
        _print(f"{row['uri']} ({row['category']}): counts as without a mask: {row['reason']}")
    for _, row in evaluation.errors.head(NUM_EXAMPLES).iterrows():
        _print(f"{row['uri']} ({row['category']}): {row['error']}: {row['error_message']}")


def _told(evaluation: Evaluation) -> str:
    """What the pixel metrics are of, if that is unusual."""
    return f"{OF_LOGITS}\n\n" if evaluation.map_filter == "logits" else ""


def _missing(evaluation: Evaluation) -> str:
    if not evaluation.missing:
        return ""
    return f"Not measured, because not there: {', '.join(evaluation.missing)}.\n"


def _print(text: str) -> None:
    print(clean_lines(text), flush=True)
