"""Tar archives: POSIX ustar and pax, and GNU's, header after header.

Python's own ``tarfile`` decodes a header's block, but for GNU's names; what goes from block to
block is here, because it would take as much memory as a header claims to need, and keep every
member.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, field

from pipeline.schema import ErrorCode

from .file import DamagedShardError, NoShardError, ShardFile
from .members import Found, Samples, is_side_file

BLOCK = tarfile.BLOCKSIZE
MAX_HEADER_BYTES = 1 << 20  # of a long name or of pax records; real ones have a few hundred
ENDING_BLOCKS = 2048  # of zeros, behind which nothing more is looked for: GNU tar writes up to 20

_WITHOUT_DATA = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.DIRTYPE: "a folder",
}
# What a folder held, in GNU's incremental tars, and the label of a volume (GNU tar manual, "Basic
# Tar Format"). They name no file, but may have data.
_NO_FILES = (b"D", b"V")
_GNU_MAGIC = b"ustar  \0"
_LONG_NAMES = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_RECORDS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)
_SPARSE = "a sparse file, which is not read; pack it anew without --sparse"


@dataclass
class _Records:
    """What stands before a member's own header: names as pax calls them, and their values."""

    own: dict[str, str] = field(default_factory=dict)
    """Of the next member."""
    common: dict[str, str] = field(default_factory=dict)
    """Of all that follow."""

    def take(self) -> dict[str, str]:
        """Those of the next member, which are gone then."""
        taken, self.own = self.common | self.own, {}
        return taken


def read_tar(file: ShardFile, samples: Samples) -> None:
    """Add the files of a tar.

    Raises:
        NoShardError: it does not begin as one.
        DamagedShardError: it ends early or is damaged; what lies before was added.
        StorageError: it can't be read.
    """
    position, zeros, records, last = 0, 0, _Records(), "its beginning"
    while zeros < ENDING_BLOCKS:
        block = file.read_at(position, BLOCK)
        if len(block) < BLOCK:
            if not zeros:
                raise DamagedShardError(f"the tar ends behind {last}, without an end mark")
            return
        if block.count(0) == BLOCK:  # another tar may follow: cat makes one of two
            zeros, position = zeros + 1, position + BLOCK
            continue
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            if not position:
                raise NoShardError from None
            if zeros:  # what follows the end is no tar
                return
            message = f"no header stands behind {last}, at byte {position:,}: {error}"
            raise DamagedShardError(f"the tar is damaged: {message}") from None
        zeros, position = 0, position + BLOCK
        if header.type in _LONG_NAMES or header.type in _RECORDS:
            data = _read_whole(file, position, header.size, "a header")
            _note(records, header.type, data)
            position += _padded(header.size)
        else:
            position = _add(file, samples, block, header, position, records.take())
            last = repr(header.name)


def _add(
    file: ShardFile,
    samples: Samples,
    block: bytes,
    header: tarfile.TarInfo,
    start: int,
    records: dict[str, str],
) -> int:
    """Add the file that a header tells of; returns where the next header stands."""
    name = header.name = records.get("path", _own_name(block, header))
    if told := _WITHOUT_DATA.get(header.type):
        if header.type != tarfile.DIRTYPE:
            target = records.get("linkpath", header.linkname)
            message = f"{told}{f' to {target!r}' if target else ''}, which is not followed; pack "
            message += "the file itself (tar --dereference --hard-dereference)"
            samples.add(Found(name, start, 0, ErrorCode.NOT_AN_IMAGE, message))
        return start
    size = _size(header, records)
    sparse = header.type == tarfile.GNUTYPE_SPARSE
    if sparse:
        start = _behind_maps(file, block, start)
    if size < 0 or start + size > file.size:
        raise DamagedShardError(f"the tar ends within {name!r}")
    if header.type in _NO_FILES:
        return start + _padded(size)
    if sparse or any(key.startswith("GNU.sparse.") for key in records):
        name = records.get("GNU.sparse.name", name)
        samples.add(Found(name, start, size, ErrorCode.UNSUPPORTED_MODE, _SPARSE))
    else:
        side = is_side_file(name, size)
        samples.add(Found(name, start, size), file.read_at(start, size) if side else None)
    return start + _padded(size)


def _own_name(block: bytes, header: tarfile.TarInfo) -> str:
    """The name in a header; ``tarfile`` puts ustar's prefix before it, whatever the format.

    Where ustar has the prefix, GNU has times (of incremental tars), and older formats have nothing.
    """
    magic = block[257:265]
    if magic.startswith(b"ustar") and magic != _GNU_MAGIC:
        return header.name
    return block[:100].partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _size(header: tarfile.TarInfo, records: dict[str, str]) -> int:
    text = records.get("size")
    if text is None:
        return header.size
    return int(text) if text.isdecimal() and len(text) < 20 else -1


def _behind_maps(file: ShardFile, block: bytes, start: int) -> int:
    """Where the data of GNU's sparse files begin: behind as many maps as say that one follows."""
    follows = block[482]  # "isextended" (GNU tar manual, "Basic Tar Format")
    while follows:
        follows = _read_whole(file, start, BLOCK, "a sparse file's map")[504]
        start += BLOCK
    return start


def _note(records: _Records, kind: bytes, data: bytes) -> None:
    if kind in _LONG_NAMES:
        text = data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        records.own[_LONG_NAMES[kind]] = text
    elif kind == tarfile.XGLTYPE:
        records.common |= _parsed(data)
    else:
        records.own |= _parsed(data)


def _parsed(data: bytes) -> dict[str, str]:
    """Records as pax writes them, ``<length> <key>=<value>`` and a line's end."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at]:  # some writers fill up with zeros
        digits, _, _ = data[at : at + 20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = data[at : at + length]
        key, equals, value = record[len(digits) + 1 :].partition(b"=")
        if not equals or len(record) < length or not value.endswith(b"\n"):
            raise DamagedShardError("the tar is damaged: one of its pax records can't be read")
        found[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "surrogateescape")
        at += length
    return found


def _read_whole(file: ShardFile, start: int, size: int, what: str) -> bytes:
    if not 0 <= size <= MAX_HEADER_BYTES:
        raise DamagedShardError(f"the tar is damaged: {what} claims to have {size:,} bytes")
    data = file.read_at(start, size)
    if len(data) < size:
        raise DamagedShardError(f"the tar ends within {what}")
    return data


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
