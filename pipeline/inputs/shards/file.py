"""A shard as a file that is read by ranges, of one version, in bounded memory."""

from __future__ import annotations

import io
from typing import Any

from pipeline.schema import ErrorCode
from pipeline.storage import read_range

SMALLEST, LARGEST = 1 << 16, 1 << 23
"""Bytes of a request: few for headers that lie far apart, many where one follows the other."""
NEAR = 1 << 20
"""Bytes that are sooner read than jumped over: a request takes as long."""
MAX_READ = 1 << 28
"""Bytes that anything in a shard may ask for at once; what wants more is damaged, or an attack."""


class TooMuchError(ValueError):
    """A shard says of one of its parts that it is very long."""


class ShardFile(io.RawIOBase):
    """Reads a shard from any place on; forwards it reads ahead, more and more.

    Held are at most ``max_read`` bytes and ``LARGEST`` more. One thread's, as all files are;
    ``zipfile`` and Arrow take it for an open file.
    """

    def __init__(self, uri: str, etag: str, size: int, max_read: int = MAX_READ) -> None:
        super().__init__()
        self.uri, self.etag, self.size = uri, etag, size
        self._max_read = max_read
        self._position = 0
        self._start, self._data = 0, b""
        self._window = SMALLEST

    def read_at(self, start: int, length: int) -> bytes:
        """The bytes [start, start + length), fewer only at the end of the shard.

        Raises:
            StorageError: it can't be read, or was replaced.
            TooMuchError: length is more than ``max_read``.
        """
        end = min(start + length, self.size)
        if start >= end:
            return b""
        if end - start > self._max_read:
            raise TooMuchError(f"a part of {end - start:,} bytes from byte {start:,} on")
        first = start - self._start
        if first >= 0 and end <= self._start + len(self._data):
            return self._data[first : first + end - start]
        behind = self._start + len(self._data)
        # Where the next header lies near, so will those that follow.
        follows = self._start <= start <= behind + NEAR
        self._window = min(2 * self._window, LARGEST) if follows else SMALLEST
        kept = self._data[first:] if self._start <= start < behind else b""
        fetch = start + len(kept)
        length = min(max(end - fetch, self._window), self.size - fetch)
        self._data = kept + read_range(self.uri, self.etag, fetch, length)
        self._start = start
        return self._data[: end - start]

    def read(self, size: int = -1) -> bytes:
        """As of any file; at most ``max_read`` bytes."""
        data = self.read_at(self._position, self.size if size is None or size < 0 else size)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError(f"a place before the beginning: {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """As of any file."""
        return self._position

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As of any file."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class NoShardError(Exception):
    """The object is none of what its suffix says."""


class DamagedShardError(Exception):
    """What a shard holds ends here: damage, or a kind that is not read. The message says why."""

    def __init__(self, message: str, code: ErrorCode = ErrorCode.TRUNCATED) -> None:
        super().__init__(message)
        self.code = code
