"""What tests ask of storage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.storage import (
    ObjectInfo,
    StorageError,
    list_objects,
)


def listed(folder: str) -> dict[str, ObjectInfo]:
    """A listing by URI; no object comes twice."""
    objects = [info for page in list_objects(folder) for info in page]
    by_uri = {info.uri: info for info in objects}
    assert len(by_uri) == len(objects)
    return by_uri


def failure(action: Callable[..., Any], *arguments: Any) -> StorageError:
    with pytest.raises(StorageError) as caught:
        action(*arguments)
    return caught.value


def list_all(folder: str) -> None:
    list(list_objects(folder))


def bucket_of(uri: str) -> str:
    return uri.removeprefix("s3://").split("/")[0]
