"""Tar archives as tools write them, as attackers do, and cut at any place."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .making import contents, listed, tar_of

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
FILES = [("a.jpg", b"1" * 700), (12 * "long name/" + "b.jpg", b"22"), ("c.jpg", b"3" * 512)]


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_names_and_bytes(format: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(FILES, format))
    assert contents(path) == FILES


names = st.text(
    st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=300
).filter(
    lambda name: not name.endswith("/") and not name.lower().endswith((".cls", ".txt", ".json"))
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    files=st.lists(st.tuples(names, st.binary(max_size=1500)), min_size=1, max_size=6),
    format=st.sampled_from(FORMATS[1:]),
)
def test_what_python_writes_is_what_is_found(
    files: list[tuple[str, bytes]], format: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(files, format))
    with tarfile.open(path) as tar:
        expected = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    assert contents(path) == expected


def test_a_tar_cut_anywhere_gives_its_whole_members_and_a_row_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(FILES, tarfile.PAX_FORMAT))
    whole = listed(path)
    ends = [sum(map(int, row["place"].split("+"))) for row in whole]
    mark = -(-ends[-1] // 512) * 512 + 512  # where the first block of the end mark ends
    for length in range(path.stat().st_size - 1, 512, -7):
        os.truncate(path, length)
        found = listed(path)
        kept = [row for row, end in zip(whole, ends, strict=True) if end <= length]
        if length >= mark:
            assert found == whole
            continue
        *members, shard = found
        assert members == kept, length
        assert (shard["name"], shard["error"]) == (None, "truncated"), length
        assert f"{len(kept)} files of it were read" in shard["error_message"]


def test_headers_that_are_damaged_end_it(tmp_path: Path) -> None:
    data = bytearray(tar_of(FILES, tarfile.USTAR_FORMAT))
    (tmp_path / "a.tar").write_bytes(data)
    second = int(listed(tmp_path / "a.tar")[1]["place"].split("+")[0]) - 512
    data[second + 148 : second + 156] = b"7777777\0"  # its checksum
    (tmp_path / "a.tar").write_bytes(data)
    first, shard = listed(tmp_path / "a.tar")
    assert first["name"] == "a.jpg"
    assert shard["error"] == "truncated"
    assert f"at byte {second:,}: bad checksum" in shard["error_message"]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_claims_gigabytes_is_not_believed(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(FILES[:1])[: 512 + 1024])
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 1 << 33
    with path.open("ab") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(1 << 34)  # sparse
    member, shard = listed(path)
    assert member["name"] == "a.jpg"
    assert "claims to have 8,589,934,592 bytes" in shard["error_message"]


def test_negative_sizes_are_damage(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x.jpg")
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 12  # -1, as GNU writes numbers that octal digits can't
    block[148:156] = f"{sum(block[:148]) + sum(block[156:]) + 8 * 32:06o}\0 ".encode()
    (tmp_path / "a.tar").write_bytes(bytes(block) + bytes(1024))
    (shard,) = listed(tmp_path / "a.tar")
    assert shard["error"] == "truncated"


@pytest.mark.parametrize("records", [b"9 path=x", b"x path=x\n", b"99 path=x\n", b"8 pathx\n"])
def test_records_that_are_damaged_end_it(records: bytes, tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    block = header.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0")
    (tmp_path / "a.tar").write_bytes(block + tar_of(FILES))
    (shard,) = listed(tmp_path / "a.tar")
    assert "pax records" in shard["error_message"]


def test_absolute_and_climbing_names_are_only_names(tmp_path: Path) -> None:
    files = [(f"{tmp_path}/out.jpg", b"1"), ("../../up.jpg", b"2"), ("a/../b.jpg", b"3")]
    (tmp_path / "a.tar").write_bytes(tar_of(files))
    assert contents(tmp_path / "a.tar") == files
    assert os.listdir(tmp_path) == ["a.tar"]


def test_two_members_of_one_name_are_two(tmp_path: Path) -> None:
    files = [("a.jpg", b"first"), ("a.jpg", b"second")]
    (tmp_path / "a.tar").write_bytes(tar_of(files))
    assert contents(tmp_path / "a.tar") == files
    first, second = listed(tmp_path / "a.tar")
    assert first["place"] != second["place"]


def test_links_devices_and_pipes_are_rows_that_say_so_and_folders_none(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind in {
            "folder": tarfile.DIRTYPE,
            "soft.jpg": tarfile.SYMTYPE,
            "hard.jpg": tarfile.LNKTYPE,
            "tty": tarfile.CHRTYPE,
            "disk": tarfile.BLKTYPE,
            "pipe": tarfile.FIFOTYPE,
        }.items():
            header = tarfile.TarInfo(name)
            header.type = kind
            header.linkname = "/etc/passwd" if name.endswith(".jpg") else ""
            tar.addfile(header)
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    told = {row["name"]: (row["error"], row["error_message"]) for row in listed(tmp_path / "a.tar")}
    assert set(told) == {"soft.jpg", "hard.jpg", "tty", "disk", "pipe"}
    assert {error for error, _ in told.values()} == {"not_an_image"}
    assert told["soft.jpg"][1].startswith("a symbolic link to '/etc/passwd', which is not followed")
    assert told["pipe"][1].startswith("a pipe, which is not followed")


def header_of(name: str, kind: bytes, size: int, fields: dict[int, bytes]) -> bytes:
    """A header of GNU's with bytes at some places of it."""
    header = tarfile.TarInfo(name)
    header.type, header.size = kind, size
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    for at, data in fields.items():
        block[at : at + len(data)] = data
    block[148:156] = f"{sum(block[:148]) + sum(block[156:]) + 8 * 32:06o}\0 ".encode()
    return bytes(block)


@pytest.mark.parametrize("magic", [b"ustar  \0", bytes(8)])
def test_only_ustar_has_a_prefix_of_the_name(magic: bytes, tmp_path: Path) -> None:
    """Times of incremental tars became a folder; in tars of before ustar nothing is there."""
    times = {257: magic, 345: b"15303343066\x0015303343065\0"}
    data = header_of("bolt/1.jpg", tarfile.REGTYPE, 1, times) + b"1".ljust(512, b"\0")
    (tmp_path / "a.tar").write_bytes(data + bytes(1024))
    assert contents(tmp_path / "a.tar") == [("bolt/1.jpg", b"1")]


@pytest.mark.parametrize("magic", [b"ustar\x0000", b"ustar   "])
def test_ustars_prefix_is_part_of_the_name(magic: bytes, tmp_path: Path) -> None:
    block = header_of("1.jpg", tarfile.REGTYPE, 0, {257: magic, 345: b"bolt"})
    (tmp_path / "a.tar").write_bytes(block + bytes(1024))
    assert contents(tmp_path / "a.tar") == [("bolt/1.jpg", b"")]


def test_labels_and_lists_of_what_folders_held_are_no_rows(tmp_path: Path) -> None:
    listing = b"Y1.jpg\0\0"
    blocks = [
        header_of("a label", b"V", 0, {}),
        header_of("bolt/", b"D", len(listing), {345: b"15303343066"}) + listing.ljust(512, b"\0"),
        tar_of([("bolt/1.jpg", b"1")]),
    ]
    (tmp_path / "a.tar").write_bytes(b"".join(blocks))
    assert contents(tmp_path / "a.tar") == [("bolt/1.jpg", b"1")]
    (tmp_path / "a.tar").write_bytes(blocks[1][: 512 + 4])
    (shard,) = listed(tmp_path / "a.tar")
    assert "the tar ends within 'bolt/'" in shard["error_message"]


@pytest.mark.skipif(not shutil.which("tar"), reason="no tar command")
@pytest.mark.parametrize("flags", [["--format=gnu"], ["--format=pax"]])
def test_what_gnu_tar_packs_incrementally_is_read(flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "bolt").mkdir()
    (tmp_path / "bolt/1.jpg").write_bytes(b"one")
    command = ["tar", "-cf", "a.tar", *flags, "-V", "label", "-g", "snapshot", "bolt"]
    if subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode:
        pytest.skip("a tar command of another kind")
    assert contents(tmp_path / "a.tar") == [("bolt/1.jpg", b"one")]


@pytest.mark.skipif(not shutil.which("tar"), reason="no tar command")
@pytest.mark.parametrize("flags", [["--format=gnu"], ["--format=pax"], ["--format=ustar"]])
def test_what_gnu_tar_packs_is_read_but_for_sparse_files(flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/1.jpg").write_bytes(b"one")
    (tmp_path / "in/2.sparse").touch()
    with (tmp_path / "in/2.sparse").open("r+b") as file:
        for start in range(0, 1 << 24, 1 << 18):  # more holes than a header has place for
            file.seek(start)
            file.write(b"x" * 4096)
    (tmp_path / "in/3.jpg").write_bytes(b"three")
    sparse = [] if flags == ["--format=ustar"] else ["--sparse"]
    command = ["tar", "-cf", "a.tar", *flags, *sparse, "in/1.jpg", "in/2.sparse", "in/3.jpg"]
    subprocess.run(command, cwd=tmp_path, check=True)
    first, holes, last = listed(tmp_path / "a.tar")
    assert (first["name"], last["name"]) == ("in/1.jpg", "in/3.jpg")
    assert last["size"] == 5
    if sparse:
        assert (holes["name"], holes["error"]) == ("in/2.sparse", "unsupported_mode")
        assert "without --sparse" in holes["error_message"]


def test_tars_joined_by_cat_are_read_to_the_end(tmp_path: Path) -> None:
    more = [("d.jpg", b"4")]
    (tmp_path / "a.tar").write_bytes(tar_of(FILES) + tar_of(more))
    assert contents(tmp_path / "a.tar") == FILES + more


def test_names_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of([("b\udcff.jpg", b"1")]))
    assert contents(tmp_path / "a.tar") == [("b\\xff.jpg", b"1")]


def test_a_tar_without_files_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of([]))
    (shard,) = listed(tmp_path / "a.tar")
    assert (shard["name"], shard["error"]) == (None, "empty")


def test_what_is_no_tar_but_for_its_name_stays_an_object(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"\xff\xd8\xff" + bytes(range(256)) * 9)
    (row,) = listed(tmp_path / "a.tar")
    assert (row["name"], row["error"]) == (None, None)


def test_side_files_tell_the_class_and_are_no_rows(tmp_path: Path) -> None:
    files = [
        ("x/1.cls", b" glass bottle\n"),
        ("x/1.jpg", b"1"),
        ("x/2.png", b"2"),
        ("x/2.json", b'{"width": 3, "label": "cable"}'),
        ("x/3.jpg", b"3"),
        ("x/3.txt", b"\xef\xbb\xbfscrew"),
        ("x/3.JSON", b'{"class": "not this"}'),
        ("x/4.left.jpg", b"4"),
        ("x/4.right.jpg", b"5"),
        ("x/4.cls", b"7"),
    ]
    (tmp_path / "a.tar").write_bytes(tar_of(files))
    assert [(row["name"], row["category"]) for row in listed(tmp_path / "a.tar")] == [
        ("x/1.jpg", "glass bottle"),
        ("x/2.png", "cable"),
        ("x/3.jpg", "screw"),
        ("x/4.left.jpg", "7"),
        ("x/4.right.jpg", "7"),
    ]


@pytest.mark.parametrize(
    "text",
    [b"", b"two\nlines", b"\xff", b"\0", b"a caption " * 20, b"x" * (1 << 17)],
)
def test_side_files_that_hold_no_name_tell_none(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of([("1.jpg", b"1"), ("1.txt", text)]))
    row = listed(tmp_path / "a.tar")[0]
    assert (row["name"], row["category"]) == ("1.jpg", None)


@pytest.mark.parametrize("text", [b"[1]", b'{"class": 3}', b"{", b"[" * 50_000, b'"bolt"'])
def test_json_without_a_name_tells_none(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of([("1.jpg", b"1"), ("1.json", text)]))
    (row,) = listed(tmp_path / "a.tar")
    assert row["category"] is None


def test_a_text_without_an_image_is_a_row_as_any_file(tmp_path: Path) -> None:
    files = [("readme.txt", b"all about it"), ("a.jpg", b"1"), ("b.json", b"{}")]
    (tmp_path / "a.tar").write_bytes(tar_of(files))
    assert contents(tmp_path / "a.tar") == files
