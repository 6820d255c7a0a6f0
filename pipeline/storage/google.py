"""Google Cloud Storage through gcsfs, but for what fsspec has no words for: pages, conditions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from fsspec.asyn import sync

from .access import ObjectInfo, filesystem_of, translated
from .files import file_info

PAGE_OBJECTS = 1_000  # as many as the service gives


def list_google(folder: str) -> Iterator[list[ObjectInfo]]:
    """The objects below a prefix, as the service pages them; see ``storage.list_objects``.

    Flat: fsspec's own walk goes by folders, and takes an empty folder name for a mistake.
    """
    filesystem, path = filesystem_of(folder)
    bucket, _, key = path.partition("/")
    request: dict[str, Any] = {"maxResults": PAGE_OBJECTS, "json_out": True}
    if key:
        request["prefix"] = f"{key}/"
    with translated(folder):
        while True:
            page = _call(filesystem, "GET", "b/{}/o", bucket, **request)
            objects = [filesystem._process_object(bucket, item) for item in page.get("items", ())]
            yield [file_info(filesystem, entry) for entry in objects]
            if "nextPageToken" not in page:
                return
            request["pageToken"] = page["nextPageToken"]


def write_google_if(uri: str, data: bytes, etag: str | None) -> str | None:
    """See ``conditional``: the service compares generations, so the ETag's is looked up first."""
    filesystem, path = filesystem_of(uri)
    bucket, _, key = path.partition("/")
    generation = "0"  # that of an object that is not there
    try:
        if etag is not None:
            found = sync(filesystem.loop, filesystem._get_object, path)
            if found["etag"] != etag:
                return None
            generation = found["generation"]
        answer = _call(
            filesystem,
            "POST",
            f"{filesystem._location}/upload/storage/v1/b/{quote(bucket)}/o",
            uploadType="media",
            name=key,
            ifGenerationMatch=generation,
            headers={"Content-Type": "application/octet-stream"},
            data=data,
            json_out=True,
        )
    except FileExistsError:  # gcsfs's word for a condition that does not hold
        return None
    except FileNotFoundError:
        if etag is not None:
            return None
        raise
    written: str = answer["etag"]
    return written


def _call(filesystem: Any, *arguments: Any, **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = sync(filesystem.loop, filesystem._call, *arguments, **more)
    return answer
