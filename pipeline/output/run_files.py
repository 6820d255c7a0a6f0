"""JSON files of a run's folder, ``<output>/runs/<run_id>/``."""

from __future__ import annotations

import json
from typing import Any

from pipeline.redaction import redacted_json
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, read_object, write_object

from .layout import REPORT, run_folder


def read_run_file(output: str, run_id: str, name: str = REPORT) -> dict[str, Any]:
    """What a file holds; empty if there is none.

    Raises:
        StorageError: it can't be read.
        ValueError: it is damaged.
    """
    uri = f"{run_folder(output, run_id)}/{name}"
    try:
        data, _ = read_object(uri)
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise
        return {}
    try:
        found = json.loads(data)
    except ValueError as error:
        raise ValueError(f"{uri} is damaged: {error}") from error
    return found if isinstance(found, dict) else {}


def write_run_file(output: str, run_id: str, name: str, content: dict[str, Any]) -> None:
    """Write a file, without secrets.

    Raises:
        StorageError: it can't be written.
    """
    write_object(f"{run_folder(output, run_id)}/{name}", redacted_json(content))
