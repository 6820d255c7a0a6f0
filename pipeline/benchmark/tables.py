"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def table(results: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Results as a table for a terminal: one line each, the columns by name and format."""
    cells = [
        [_cell(result.get(name), form) for name, form in columns.items()] for result in results
    ]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(columns)]
    lines = [list(columns), *cells]
    return "\n".join(
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def _cell(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)
