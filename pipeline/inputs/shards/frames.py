"""Frames of DICOM files as members: the header tells how many, and where the first one begins.

Frames that are not compressed follow each other. Of compressed ones a table tells where each
begins; without one, the headers of their parts are read from the first to the last.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice, pairwise
from threading import Lock

from pipeline.images.dicom_frames import FrameFiles, Header, read_header
from pipeline.images.extras import MissingExtraError
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, stat

from .file import NoShardError, ShardFile
from .members import Members
from .places import frame_place

FRAMES_PATTERN = r"(?i)(?:\.(?:dcm|dicom|dic|ima)|\.[0-9]+|/[^/.]+)$"
"""Regular expression of URIs that may hold frames, for Arrow as well: scanners name files by
numbers and UIDs, and with no suffix at all."""

MAX_FRAMES = 100_000  # of a file, each of which becomes a row of the manifest
MAX_PARTS = 1 << 18  # of compressed frames, each of which may come in several
HEADER_BYTES = (1 << 16, 1 << 20, 1 << 25)
"""Of a file that are looked at for its pixels' beginning: mostly the first are enough; a thousand
frames, each with a page of its own about where it lies in the body, take a few million."""
KEPT = 8  # files whose headers a process holds
_ITEM, _END_OF_IMAGE = b"\xfe\xff\x00\xe0", b"\xff\xd9"

_locks = [Lock() for _ in range(16)]
Span = tuple[int, int]


def read_frames(file: ShardFile, members: Members) -> None:
    """Add the frames of a DICOM file that has several.

    What its header claims and the file does not hold is one row with an error, behind the others.

    Raises:
        NoShardError: it is no such file, or can't be read as one.
        MissingExtraError: pydicom is not installed.
        StorageError: it can't be read.
    """
    header = _header(file)
    if header is None or header.frames < 2:
        raise NoShardError
    try:
        spans = list(islice(_spans(file, header), min(header.frames, MAX_FRAMES)))
    except (ValueError, struct.error):  # a header without sizes, or a part of any length
        raise NoShardError from None
    if not spans:
        raise NoShardError
    for frame, (start, end) in enumerate(spans, 1):
        place = frame_place(frame, start, end - start)
        members.add_row(str(frame), place, end - start, None, None, None, None)
    missing = len(spans) + 1
    if header.frames >= missing:
        code, why = ErrorCode.TRUNCATED, f"the file holds {len(spans):,}"
        if len(spans) == MAX_FRAMES:
            code, why = ErrorCode.UNSUPPORTED_MODE, f"at most {MAX_FRAMES:,} of a file are read"
        message = f"its header claims {header.frames:,} frames; {why}"
        place = frame_place(missing, spans[-1][1], 0)
        members.add_row(str(missing), place, 0, None, None, code.value, message)


def frame_file(uri: str, etag: str, frame: int, pixels: bytes) -> bytes:
    """A file of one frame, of the bytes where it lies.

    Args:
        uri: of the file with all frames.
        etag: of the same.
        frame: its number, from 1.
        pixels: what was read from its place.

    Raises:
        StorageError: the header can't be read.
    """
    with _locks[hash(uri) % len(_locks)]:  # threads that ask for one header read it once
        return _maker(uri, etag).made(frame, pixels)


@lru_cache(maxsize=KEPT)
def _maker(uri: str, etag: str) -> FrameFiles:
    try:
        header = _header(ShardFile(uri, etag, stat(uri).size))
    except MissingExtraError as error:
        message = f"a frame of a DICOM file, which takes an extra: {error}"
        raise StorageError(ErrorCode.UNSUPPORTED_MODE, message) from None
    try:
        if header is not None:  # it could be read when it was listed
            return FrameFiles(header, MAX_FRAMES)
    except (ValueError, struct.error):  # damage within what a listing does not look at
        pass
    raise StorageError(ErrorCode.TRUNCATED, "the header of the DICOM file can't be read")


def _header(file: ShardFile) -> Header | None:
    for most in HEADER_BYTES:
        data = file.read_at(0, most)
        if (header := read_header(data)) is not None:
            return header
        if len(data) == file.size or data[128:132] != b"DICM":
            return None
    return None


def _spans(file: ShardFile, header: Header) -> Iterator[Span]:
    """Where the frames lie that the file holds whole."""
    if header.compressed:
        yield from _compressed(file, header)
        return
    first, bits = header.pixels.value, header.bits
    end = min(file.size, header.pixels.stop)
    if not bits or (header.coding.order == ">" and bits % 16):  # words with halves of two frames
        return
    for frame in range(header.frames):
        span = first + frame * bits // 8, first - (frame + 1) * bits // -8
        if span[1] > end:
            return
        yield span


def _compressed(file: ShardFile, header: Header) -> Iterator[Span]:
    at = header.pixels.value
    head = file.read_at(at, 8)
    if head[:4] != _ITEM:
        return
    (length,) = struct.unpack("<I", head[4:])
    first = at + 8 + length
    starts: list[int] = []
    if header.frames > MAX_FRAMES:  # its table is not looked at
        pass
    elif len(header.offsets) == 8 * header.frames:
        starts = [first + each for each in struct.unpack(f"<{header.frames}Q", header.offsets)]
    elif length == 4 * header.frames:
        table = file.read_at(at + 8, length)
        starts = [first + each for each in struct.unpack(f"<{header.frames}I", table)]
    if starts and starts[0] == first and all(b - a > 8 for a, b in pairwise(starts)):
        yield from ((a, b) for a, b in pairwise(starts) if b <= file.size)
        parts = list(islice(_parts(file, starts[-1]), MAX_PARTS))
        if parts:
            yield starts[-1], parts[-1][1]
        return
    parts = list(islice(_parts(file, first), MAX_PARTS))
    if len(parts) <= header.frames:
        yield from parts
        return
    begin = first
    for _, end in parts:  # of JPEG, whose streams tell where they end
        if _END_OF_IMAGE in file.read_at(end - 10, 10):
            yield begin, end
            begin = end


def _parts(file: ShardFile, at: int) -> Iterator[Span]:
    """Where the items lie that follow each other from a place on."""
    while (head := file.read_at(at, 8))[:4] == _ITEM and len(head) == 8:
        end = at + 8 + int(struct.unpack("<I", head[4:])[0])
        if end > file.size:
            return
        yield at, end
        at = end
