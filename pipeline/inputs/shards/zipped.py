"""Zip archives whose members are stored as they are: those can be read by ranges."""

from __future__ import annotations

import struct
import zipfile
import zlib

from pipeline.schema import ErrorCode

from .file import DamagedShardError, NoShardError, ShardFile
from .members import Found, Samples, is_side_file

_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
# Of a member's own header: signature, and the lengths of name and extra field, which the table of
# contents may give otherwise (PKWARE's APPNOTE.TXT, 4.3.7).
_LOCAL = struct.Struct("<4s22xHH")
_ENCRYPTED, _UTF_8 = 0x1, 0x800
_DOS = 0  # what "made by" says of Windows, too (APPNOTE.TXT, 4.4.2)
_UNICODE_PATH = 0x7075  # Info-ZIP's extra field (APPNOTE.TXT, 4.6.9)
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
        name = _name(info)
        if not _is_folder(info, name):
            _add(file, samples, info, name)


def _add(file: ShardFile, samples: Samples, info: zipfile.ZipInfo, name: str) -> None:
    folder = _folder(info, name)
    problem, at = None, max(0, info.header_offset)  # damaged contents may say anything
    if info.flag_bits & _ENCRYPTED:
        problem = "encrypted; pack it without a password"
    elif info.compress_type != zipfile.ZIP_STORED:
        problem = "compressed, so it can't be read by ranges; pack it with zip -0, or as a tar"
    if problem:
        message = f"{name!r} is {problem}"
        samples.add(Found(name, at, 0, ErrorCode.UNSUPPORTED_MODE, message, folder))
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
        message = f"the zip is damaged: {name!r} is not where its contents say"
        samples.add(Found(name, at, 0, ErrorCode.TRUNCATED, message, folder))
        return
    found, side = Found(name, start, info.file_size, folder=folder), None
    if is_side_file(name, info.file_size):
        side = file.read_at(start, info.file_size)
    samples.add(found, side)


def _name(info: zipfile.ZipInfo) -> str:
    """A member's name: UTF-8 where its bytes are, though only a flag should say so.

    macOS and others write UTF-8 without the flag, and what stands for it otherwise, the characters
    of DOS, is hardly ever valid UTF-8 by chance.
    """
    if info.flag_bits & _UTF_8:
        return info.filename
    raw = info.orig_filename.encode("cp437")  # as zipfile decoded it, one character for each byte
    told = _unicode_path(info.extra, raw) or raw
    try:
        return told.partition(b"\0")[0].decode()  # zipfile ends names there, too
    except UnicodeDecodeError:
        return info.filename


def _unicode_path(extra: bytes, raw: bytes) -> bytes:
    """The name in Info-ZIP's extra field, if it is there and stands for the raw one."""
    while len(extra) >= 4:  # zipfile has refused fields that are longer than the rest
        kind, length = struct.unpack_from("<HH", extra)
        field = extra[4 : 4 + length]
        if kind == _UNICODE_PATH and field[:5] == struct.pack("<BI", 1, zlib.crc32(raw)):
            return field[5:]
        extra = extra[4 + length :]
    return b""


def _folder(info: zipfile.ZipInfo, name: str) -> str | None:
    """The folder of a name that old tools on Windows wrote with backslashes; None of any other."""
    if info.create_system != _DOS or "/" in name or "\\" not in name:
        return None
    return name.rpartition("\\")[0].replace("\\", "/")


def _is_folder(info: zipfile.ZipInfo, name: str) -> bool:
    if _folder(info, name) is not None:
        return name.endswith("\\") and not info.file_size
    return name.endswith("/")
