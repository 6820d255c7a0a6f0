"""Azure Blob Storage: adlfs's client, credentials and event loop, without its idea of folders.

adlfs parses keys as URLs (a ``#`` ends them) and walks by folders, where objects below an empty
folder name get lost. Its client takes keys as they are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from fsspec.asyn import sync

from .access import ObjectInfo, filesystem_of, status_of, translated

# 409: there is an object of that name. 412: the condition does not hold.
_REFUSED = (409, 412)

T = TypeVar("T")


def list_azure(folder: str) -> Iterator[list[ObjectInfo]]:
    """The objects below a prefix, as the service pages them; see ``storage.list_objects``."""
    filesystem, path = filesystem_of(folder)
    container, _, key = path.partition("/")
    with translated(folder):
        client = filesystem.service_client.get_container_client(container)
        prefix = f"{key}/" if key else None
        # The metadata tells of accounts with real folders which entries are one.
        pages = client.list_blobs(name_starts_with=prefix, include=["metadata"]).by_page()
        while (page := sync(filesystem.loop, _next, pages)) is not None:
            blobs = [blob for blob in page if not _is_folder(blob)]
            yield [_info(f"abfs://{container}/{blob.name}", blob) for blob in blobs]


def stat_azure(uri: str) -> ObjectInfo:
    """See ``storage.stat``."""
    return _info(uri, _with_blob(uri, lambda blob: blob.get_blob_properties()))


def read_azure(uri: str) -> tuple[bytes, str]:
    """See ``storage.read_object``; the service gives one version, or fails."""

    async def read(blob: Any) -> tuple[bytes, str]:
        stream = await blob.download_blob()
        return await stream.readall(), _quoted(stream.properties.etag)

    return _with_blob(uri, read)


def read_azure_range(uri: str, start: int, length: int) -> tuple[bytes, str]:
    """So many bytes, and the ETag of the version that they are of."""

    async def read(blob: Any) -> tuple[bytes, str]:
        stream = await blob.download_blob(offset=start, length=length)
        return await stream.readall(), _quoted(stream.properties.etag)

    return _with_blob(uri, read)


def write_azure(uri: str, data: bytes, content_type: str | None) -> None:
    """See ``storage.write_object``."""
    headers = {"x-ms-blob-content-type": content_type} if content_type else {}
    _with_blob(uri, lambda blob: blob.upload_blob(data, overwrite=True, headers=headers))


def write_azure_if(uri: str, data: bytes, etag: str | None) -> str | None:
    """See ``conditional``; both conditions are the service's own."""
    condition: dict[str, Any] = {"overwrite": etag is not None}
    if etag is not None:
        condition["headers"] = {"If-Match": etag}
    try:
        answer = _with_blob(uri, lambda blob: blob.upload_blob(data, **condition))
    except Exception as error:
        if status_of(error) in _REFUSED:
            return None
        raise
    return _quoted(answer["etag"])


def delete_azure(uri: str) -> None:
    """See ``conditional.delete_objects``."""
    try:
        _with_blob(uri, lambda blob: blob.delete_blob())
    except Exception as error:
        if status_of(error) != 404:
            raise


def _with_blob(uri: str, action: Callable[[Any], Awaitable[T]]) -> T:
    filesystem, path = filesystem_of(uri)
    container, _, key = path.partition("/")

    async def act() -> T:
        return await action(filesystem.service_client.get_blob_client(container, key))

    result: T = sync(filesystem.loop, act)
    return result


async def _next(pages: Any) -> list[Any] | None:
    async for page in pages:
        return [blob async for blob in page]
    return None


def _is_folder(blob: Any) -> bool:
    metadata = {name.lower(): value for name, value in (blob.metadata or {}).items()}
    marked = "true" in (metadata.get("hdi_isfolder"), metadata.get("is_directory"))
    return blob.size == 0 and (marked or blob.name.endswith("/"))


def _info(uri: str, blob: Any) -> ObjectInfo:
    archived = blob.blob_tier == "Archive"
    return ObjectInfo(uri, _quoted(blob.etag), blob.size, blob.last_modified, archived)


def _quoted(etag: str) -> str:
    """One spelling: listings give it without quotes, everything else with them."""
    return f'"{etag.strip(chr(34))}"'
