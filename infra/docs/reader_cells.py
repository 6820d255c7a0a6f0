"""Runs a script of docs/readers/ or docs/publishing/ where nothing of the project is installed.

``python -P reader_cells.py SCRIPT ANSWER``, in the folder that holds ``scores/``. A script is
cells below ``# %% NAME``; ANSWER becomes a JSON object of what they leave behind, or their errors.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

ASKED = {
    "told": ("nights", "grids"),
    "plain": ("columns",),
    "half": ("half",),
    "delta": ("delta",),
    "iceberg": ("iceberg",),
}


def cells(text: str) -> dict[str, str]:
    """The cells of a script by name, in Python or JavaScript."""
    parts = re.split(r"^(?:#|//) %% (\w+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def run(text: str) -> dict[str, Any]:
    """What the cells of a Python script leave behind; of a cell that fails, ``<name> error``."""
    namespace: dict[str, Any] = {}
    answer: dict[str, Any] = {}
    for name, code in cells(text).items():
        try:
            exec(compile(code, name, "exec"), namespace)
            answer |= {each: namespace[each] for each in ASKED.get(name, ())}
        except Exception as error:  # of any kind: it is what the table tells
            answer[f"{name} error"] = f"{type(error).__name__}: {_sentence(error)}"
    return answer


def _sentence(error: Exception) -> str:
    """The start of a message, before it comes to the names of files."""
    return re.split(r"[,.;] |\n", str(error))[0]


def main() -> None:
    """Answer for one script."""
    script, answer = map(Path, sys.argv[1:])
    with contextlib.redirect_stdout(sys.stderr):
        told = run(script.read_text())
    answer.write_text(json.dumps(told, default=str))
    sys.stdout.flush()
    os._exit(0)  # threads of a reader's own may still run


if __name__ == "__main__":
    main()
