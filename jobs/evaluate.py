"""Measure AdaCLIP on labelled images: ``python jobs/evaluate.py --help``.

Run it directly (starts a local Ray), or on a cluster:
``ray job submit --working-dir . -- python jobs/evaluate.py --data ... --output ...``
"""

from __future__ import annotations

import io
import sys

import pandas as pd

from pipeline.config import NONE, EvaluateConfig
from pipeline.distributed import entry
from pipeline.distributed.evaluation.job import Evaluation, evaluate
from pipeline.evaluation import as_markdown, as_text, compare
from pipeline.evaluation.paper import comparisons_as_markdown, comparisons_as_text
from pipeline.evaluation.plots import draw
from pipeline.evaluation.protocols import protocols_as_markdown, protocols_as_text
from pipeline.storage import absolute, write_object
from pipeline.terminal import clean

GOES_ON = "finished scores are written, the same command goes on from here"
NUM_EXAMPLES = 5  # of unusable images, on the terminal
MAX_LINE = 240


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print, write the tables; returns the exit code."""
    return entry.run(lambda: parse(arguments), measure, goes_on=GOES_ON)


def parse(arguments: list[str] | None = None) -> EvaluateConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return entry.parse(EvaluateConfig, "evaluate.py", arguments)


def measure(config: EvaluateConfig, console: entry.Console) -> int:
    """Measure, show and write the tables; returns the exit code."""
    if NONE in (config.backbone_weights, config.checkpoint):
        console.warn("random weights; the metrics mean nothing")
    evaluation = evaluate(config, say=lambda line: console.say(_cleaned(line)))
    pictures = write_plots(evaluation, config.output) if config.plots else []
    write_tables(evaluation, config.output, pictures)
    show(evaluation)
    _print(f"\ntables: {absolute(config.output)}/metrics.md, metrics.csv, metrics.parquet")
    if config.has_protocols:
        _print("and beside other images: protocols.md, protocols.csv, protocols.parquet")
    if pictures:
        _print(f"pictures: {absolute(config.output)}/plots/")
    return exit_code(evaluation, config.max_error_rate, console)


def exit_code(
    evaluation: Evaluation, max_error_rate: float, console: entry.Console | None = None
) -> int:
    """``FAILED``, and a line that says so, if too many images could not be used."""
    if evaluation.error_rate <= max_error_rate:
        return entry.DONE
    message = (
        f"{evaluation.error_rate:.1%} of the images could not be used, more than "
        f"--max-error-rate {max_error_rate:.1%}; errors.csv names them"
    )
    return (console or entry.Console()).fail(message, entry.FAILED)


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
    text = f"# Metrics\n\n{as_markdown(table)}\n{comparisons}\n{_missing(evaluation)}"
    text += "".join(f"\n![{name}]({name})\n" for name in pictures)
    _write(f"{folder}/metrics", table, text)
    if len(protocols):
        text = f"# Beside other images\n\n{protocols_as_markdown(protocols)}"
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
    _print("\n" + as_text(evaluation.table))
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


def _missing(evaluation: Evaluation) -> str:
    if not evaluation.missing:
        return ""
    return f"Not measured, because not there: {', '.join(evaluation.missing)}.\n"


def _print(text: str) -> None:
    print(_cleaned(text), flush=True)


def _cleaned(text: str) -> str:
    return "\n".join(clean(line, MAX_LINE) for line in text.split("\n"))


if __name__ == "__main__":
    sys.exit(main())
