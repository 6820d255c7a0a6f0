"""The Python of documents, run as it stands, one block after the other in one namespace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def python_blocks(document: str) -> list[str]:
    """The Python blocks of a document, named from the root."""
    return blocks((ROOT / document).read_text(), "python")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)


def run_blocks(document: str, bucket: str) -> dict[str, Any]:
    """Run all blocks, with a bucket in the place of "bucket"; what they leave behind."""
    namespace: dict[str, Any] = {}
    for number, block in enumerate(python_blocks(document), 1):
        code = compile(
            block.replace("s3://bucket/", f"s3://{bucket}/"), f"{document}#{number}", "exec"
        )
        exec(code, namespace)
    return namespace
