"""Zip archives whose members are stored as they are: those can be read by ranges."""

from __future__ import annotations

import struct
import zipfile

from pipeline.schema import ErrorCode

from .file import DamagedShardError, NoShardError, ShardFile
from .members import Found, Samples, is_side_file

_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
# Of a member's own header: signature, and the lengths of name and extra field, which the table of
# contents may give otherwise (PKWARE's APPNOTE.TXT, 4.3.7).
_LOCAL = struct.Struct("<4s22xHH")
_ENCRYPTED = 0x1
MAX_CONTENTS = 1 << 25  # bytes of the table of contents, which is held whole: 300,000 members


def read_zip(file: ShardFile, samples: Samples) -> None:
    """Add the files of a zip; compressed and encrypted ones with an error.

    Raises:
        NoShardError: it does not begin as one.
        DamagedShardError: its table of contents is missing or damaged; nothing was added.
        StorageError: it can't be read.
    """
    if file.read_at(0, 4) not in _BEGINNINGS:
        raise NoShardError
    contents = ShardFile(file.uri, file.etag, file.size, max_read=MAX_CONTENTS)
    try:
        with zipfile.ZipFile(contents) as archive:
            members = archive.infolist()
    # NotImplementedError is zipfile's own, of archives of a later version than it knows.
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OSError) as error:
        told = "its table of contents, which stands at its end, can't be read"
        raise DamagedShardError(f"the zip is damaged or cut: {told} ({error})") from error
    for info in sorted(members, key=lambda info: info.header_offset):
        if not info.is_dir():
            _add(file, samples, info)


def _add(file: ShardFile, samples: Samples, info: zipfile.ZipInfo) -> None:
    problem, at = None, max(0, info.header_offset)  # damaged contents may say anything
    if info.flag_bits & _ENCRYPTED:
        problem = "encrypted; pack it without a password"
    elif info.compress_type != zipfile.ZIP_STORED:
        problem = "compressed, so it can't be read by ranges; pack it with zip -0, or as a tar"
    if problem:
        message = f"{info.filename!r} is {problem}"
        code = ErrorCode.UNSUPPORTED_MODE
        samples.add(Found(info.filename, at, 0, code, message))
        return
    header = file.read_at(at, _LOCAL.size)
    whole = len(header) == _LOCAL.size
    signature, name_length, extra_length = _LOCAL.unpack(header) if whole else (b"", 0, 0)
    start = at + _LOCAL.size + name_length + extra_length
    if (
        signature != _BEGINNINGS[0]
        or info.compress_size != info.file_size
        or (start + info.file_size > file.size)
    ):
        message = f"the zip is damaged: {info.filename!r} is not where its contents say"
        samples.add(Found(info.filename, at, 0, ErrorCode.TRUNCATED, message))
        return
    found, side = Found(info.filename, start, info.file_size), None
    if is_side_file(info.filename, info.file_size):
        side = file.read_at(start, info.file_size)
    samples.add(found, side)
