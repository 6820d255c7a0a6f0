"""PNG files without the chunks that say nothing of pixels and that Pillow refuses to inflate."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from PIL.PngImagePlugin import MAX_TEXT_CHUNK, MAX_TEXT_MEMORY

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PROFILE = b"iCCP"
_AROUND = 12  # bytes of a chunk beside its data: length, kind and checksum


def without_large_texts(data: bytes) -> bytes:
    """The same bytes, for a PNG without texts and profiles above Pillow's limits.

    Pillow refuses a whole image for one chunk of more than 1 MiB of text or colour profile. What
    is cut or damaged stays as it is.
    """
    parts, copied_to, memory = [], 0, 0
    for start, end, kind in _chunks(data):
        if kind not in (*_TEXTS, _PROFILE):
            continue
        length = _inflated_length(kind, data[start + 8 : end - 4])
        memory += length if kind in _TEXTS else 0
        if (kind != b"tEXt" and length > MAX_TEXT_CHUNK) or memory > MAX_TEXT_MEMORY:
            memory -= length if kind in _TEXTS else 0
            parts.append(data[copied_to:start])
            copied_to = end
    return b"".join([*parts, data[copied_to:]]) if parts else data


def _chunks(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Start, end and kind of each whole chunk of a PNG."""
    start = len(_SIGNATURE) if data.startswith(_SIGNATURE) else len(data)
    while start + _AROUND <= len(data):
        end = start + _AROUND + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            return
        yield start, end, data[start + 4 : start + 8]
        start = end


def _inflated_length(kind: bytes, body: bytes) -> int:
    """Bytes of a text or profile, counted to just above the limit."""
    _, _, rest = body.partition(b"\0")
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] != b"\x01"):
        return len(rest)
    if kind == b"iTXt":  # a language and a translated keyword follow the flag and the method
        rest = rest[1:2] + rest[2:].split(b"\0", 2)[-1]
    try:
        return len(zlib.decompressobj().decompress(rest[1:], MAX_TEXT_CHUNK + 1))
    except zlib.error:
        return 0
