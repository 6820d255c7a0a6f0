"""Zip archives: what is stored as it is can be read, everything else says what to do."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from pipeline.inputs.shards import read_named

from .making import Files, contents, listed, zip_of

FILES = [("a/1.jpg", b"one"), ("a/2.jpg", b"22"), ("/../3.jpg", b"333")]


def test_stored_files_are_read_by_ranges(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of(FILES))
    assert contents(tmp_path / "a.zip") == FILES


def test_a_zip_behind_other_bytes_with_a_comment_is_none_but_with_a_comment_is(
    tmp_path: Path,
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.comment = b"packed by hand"
        for name, data in FILES:
            archive.writestr(name, data)
    assert contents(tmp_path / "a.zip") == FILES


def test_large_fields_are_read_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in FILES:
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(data)
    assert contents(tmp_path / "a.zip") == FILES


def test_compressed_and_encrypted_files_are_rows_with_the_remedy(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.jpg", b"stored")
        archive.writestr("2.jpg", b"x" * 100, zipfile.ZIP_DEFLATED)
        archive.writestr("3.jpg", b"secret")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1  # in the contents: "encrypted"
    (tmp_path / "a.zip").write_bytes(data)
    stored, compressed, encrypted = listed(tmp_path / "a.zip")
    assert stored["error"] is None
    assert compressed["error"] == encrypted["error"] == "unsupported_mode"
    assert "'2.jpg' is compressed" in compressed["error_message"]
    assert "zip -0" in compressed["error_message"]
    assert "'3.jpg' is encrypted; pack it without a password" in encrypted["error_message"]


def test_folders_are_no_rows_and_side_files_tell_the_class(tmp_path: Path) -> None:
    files = [("a/", b""), ("a/1.cls", b"bolt"), ("a/1.jpg", b"1")]
    (tmp_path / "a.zip").write_bytes(zip_of(files))
    (row,) = listed(tmp_path / "a.zip")
    assert (row["name"], row["category"]) == ("a/1.jpg", "bolt")


def without_flag(files: Files, raw: dict[bytes, bytes]) -> bytes:
    """A zip that does not say that its names are UTF-8, with some bytes replaced by others."""
    data = bytearray(zip_of(files))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(signature, bytes(data)):
            flags = found.start() + at
            data[flags : flags + 2] = bytes(2)
    for old, new in raw.items():
        data = data.replace(old, new)
    return bytes(data)


def test_names_are_utf_8_if_their_bytes_are(tmp_path: Path) -> None:
    """macOS does not set the flag for it; "Flügel" became "Fl├╝gel"."""
    path = tmp_path / "a.zip"
    files = [("Flügel/ü.jpg", b"1"), ("a/2.jpg", b"2"), ("Бол\u0438\u0306т/3.jpg", b"3")]
    path.write_bytes(without_flag(files, {}))
    assert contents(path) == files
    assert [read_named(f"file://{path}#{name}") for name, _ in files] == [b"1", b"2", b"3"]
    path.write_bytes(without_flag(files, {"ü".encode(): b"\xff\x81"}))  # as DOS means them
    assert contents(path)[0] == ("Fl\xa0ügel/\xa0ü.jpg", b"1")
    path.write_bytes(zip_of(files))
    assert contents(path) == files


@pytest.mark.parametrize(
    ("version", "raw", "told", "name"),
    [
        (1, b"Fl_gel.jpg", "Flügel.jpg".encode(), "Flügel.jpg"),
        (1, b"other.jpg", "Flügel.jpg".encode(), "Fl_gel.jpg"),  # of a name that was changed since
        (2, b"Fl_gel.jpg", "Flügel.jpg".encode(), "Fl_gel.jpg"),
        (1, b"Fl_gel.jpg", b"", "Fl_gel.jpg"),
        (1, b"Fl_gel.jpg", b"x\0y", "x"),
    ],
)
def test_info_zips_extra_field_names_a_file(
    version: int, raw: bytes, told: bytes, name: str, tmp_path: Path
) -> None:
    field = struct.pack("<BI", version, zlib.crc32(raw)) + told
    member = zipfile.ZipInfo("Fl_gel.jpg")
    member.extra = struct.pack("<HHHHH", 0x5455, 2, 0, 0x7075, len(field)) + field
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(member, b"1")
    assert contents(tmp_path / "a.zip") == [(name, b"1")]


def test_folders_of_old_tools_on_windows_are_no_rows(tmp_path: Path) -> None:
    files = [("a\\", b""), ("a\\b\\", b""), ("a\\1.jpg", b"1"), ("2.jpg", b"")]
    (tmp_path / "a.zip").write_bytes(zip_of(files, system=0))
    assert contents(tmp_path / "a.zip") == files[2:]
    assert [row["folder"] for row in listed(tmp_path / "a.zip")] == ["a", None]
    (tmp_path / "a.zip").write_bytes(zip_of(files))
    assert contents(tmp_path / "a.zip") == files


def test_a_file_without_a_name_is_a_row(tmp_path: Path) -> None:
    """It ended the run: ``zipfile`` looks for the last character of the name."""
    (tmp_path / "a.zip").write_bytes(without_flag([("x", b"1")], {b"x": b"\0"}))
    (row,) = listed(tmp_path / "a.zip")
    assert (row["name"], row["error"]) == ("", None)


def test_a_zip_cut_anywhere_is_one_row(tmp_path: Path) -> None:
    data = zip_of(FILES)
    for length in range(4, len(data), 5):
        (tmp_path / "a.zip").write_bytes(data[:length])
        (shard,) = listed(tmp_path / "a.zip")
        assert (shard["name"], shard["error"]) == (None, "truncated")
        assert "its table of contents, which stands at its end" in shard["error_message"]


def test_a_file_that_is_not_where_the_contents_say_is_a_row(tmp_path: Path) -> None:
    data = zip_of(FILES)
    damaged = data.replace(b"PK\x03\x04", b"PK\x03\x05").replace(b"PK\x03\x05", b"PK\x03\x04", 1)
    (tmp_path / "a.zip").write_bytes(damaged)
    first, *others = listed(tmp_path / "a.zip")
    assert first["error"] is None
    assert [row["error"] for row in others] == ["truncated", "truncated"]


@pytest.mark.parametrize("claimed", [2**32 - 2, 1 << 26])
def test_contents_that_claim_gigabytes_are_not_believed(claimed: int, tmp_path: Path) -> None:
    data = bytearray(zip_of(FILES))
    end = data.rindex(b"PK\x05\x06")
    data[end + 12 : end + 16] = claimed.to_bytes(4, "little")
    path = tmp_path / "a.zip"
    with path.open("wb") as file:
        file.write(data[:end])
        file.seek(1 << 33)  # sparse
        file.write(data[end:])
    (shard,) = listed(path)
    assert shard["error"] == "truncated"


def test_what_is_no_zip_but_for_its_name_stays_an_object(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"\x89PNG\r\n" + bytes(2000))
    (row,) = listed(tmp_path / "a.zip")
    assert (row["name"], row["error"]) == (None, None)


def test_an_empty_zip_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of([]))
    (shard,) = listed(tmp_path / "a.zip")
    assert (shard["name"], shard["error"]) == (None, "empty")
