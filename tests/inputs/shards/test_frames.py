"""Frames of DICOM files: each is found where it lies, and is a picture of its own."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.sequence import Sequence

from infra.docs.dicom_files import PATIENT, dicom
from pipeline.images import ImageError, decode
from pipeline.inputs.shards import frames, read_named, read_version
from pipeline.inputs.shards.frames import MAX_FRAMES
from pipeline.inputs.shards.reading import planned
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, stat
from tests.image_files import hide_extras
from tests.inputs.shards.making import contents, listed

PICTURES = [np.random.default_rng(seed).integers(0, 4096, (20, 30), np.uint16) for seed in range(5)]
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


def stack(coding: str = "", **tags: Any) -> bytes:
    return dicom(PICTURES[0], 12, coding=coding, more=PICTURES[1:], **WINDOW | tags)


def arrays(data: bytes) -> NDArray[Any]:
    return pydicom.dcmread(io.BytesIO(data)).pixel_array


def found(data: bytes, path: Path) -> list[bytes]:
    """The files of the frames of a file."""
    (path / "a.dcm").write_bytes(data)
    members = contents(path / "a.dcm")
    assert [name for name, _ in members] == [str(i + 1) for i in range(len(members))]
    return [made for _, made in members]


def rewritten(data: bytes, **tags: Any) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(data))
    for name, value in tags.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("coding", ["", "rle", "jpeg2k", "ljpeg", "jpegls"])
def test_every_frame_is_the_picture_that_it_is_alone(coding: str, tmp_path: Path) -> None:
    made = found(stack(coding), tmp_path)
    assert len(made) == len(PICTURES)
    for data, picture in zip(made, PICTURES, strict=True):
        alone = decode(dicom(picture, 12, coding=coding, **WINDOW))
        np.testing.assert_array_equal(np.asarray(decode(data)), np.asarray(alone))


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_rle_2frame.dcm",
        "SC_rgb_rle_16bit_2frame.dcm",
        "examples_ybr_color.dcm",
        "rtdose.dcm",
        "rtdose_expb.dcm",
        "rtdose_rle.dcm",
    ],
)
def test_frames_of_other_programs_have_the_pixels_that_pydicom_gives(
    name: str, tmp_path: Path
) -> None:
    """Implicit, big-endian, RLE and JPEG files that come with pydicom."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    whole = pydicom.dcmread(path)
    made = found(Path(path).read_bytes(), tmp_path)
    assert len(made) == len(whole.pixel_array) == whole.NumberOfFrames
    for each, pixels in zip(made, whole.pixel_array, strict=True):
        np.testing.assert_array_equal(arrays(each), pixels)


def tables(data: bytes) -> dict[str, bytes]:
    """A file of compressed frames, with and without each kind of table."""
    streams = list(generate_frames(pydicom.dcmread(io.BytesIO(data)).PixelData, number_of_frames=5))
    value, offsets, lengths = encapsulate_extended(streams)
    told = {"ExtendedOffsetTable": offsets, "ExtendedOffsetTableLengths": lengths}
    in_parts = encapsulate(streams, fragments_per_frame=3, has_bot=False)
    wrong = encapsulate(streams).replace(struct.pack("<I", len(streams[0]) + 8), bytes(4), 1)
    return {
        "basic": data,
        "extended": rewritten(data, PixelData=value, **told),
        "none": rewritten(data, PixelData=encapsulate(streams, has_bot=False)),
        "parts": rewritten(data, PixelData=encapsulate(streams, fragments_per_frame=3)),
        "parts without a table": rewritten(data, PixelData=in_parts),
        "wrong": rewritten(data, PixelData=wrong),
    }


@pytest.mark.parametrize("kind", tables(stack("jpegls")))
def test_compressed_frames_are_found_by_either_table_or_none(kind: str, tmp_path: Path) -> None:
    for data, picture in zip(found(tables(stack("jpegls"))[kind], tmp_path), PICTURES, strict=True):
        alone = decode(dicom(picture, 12, **WINDOW))
        np.testing.assert_array_equal(np.asarray(decode(data)), np.asarray(alone))


def test_frames_of_one_bit_begin_anywhere_in_a_byte(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (6, 5, 5), np.uint8)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    tags = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": packed}
    made = found(dicom(bits[0], 8, more=list(bits[1:]), **tags), tmp_path)
    for data, expected in zip(made, bits, strict=True):
        np.testing.assert_array_equal(np.asarray(decode(data))[..., 0], 255 * expected)


def items(*parts: dict[str, Any]) -> Sequence:
    return Sequence([one(**part) for part in parts])


def one(**tags: Any) -> Dataset:
    made = Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def groups() -> dict[str, Any]:
    """What an enhanced CT says of all frames and of each: a window and rescaling of its own."""
    frame = [
        {
            "FrameContentSequence": items({"FrameComments": PATIENT}),
            "PixelValueTransformationSequence": items(
                {"RescaleSlope": 1, "RescaleIntercept": -100 * i, "RescaleType": "HU"}
            ),
            "FrameVOILUTSequence": items({"WindowCenter": 500 * i + 200, "WindowWidth": 400 + i}),
        }
        for i in range(4)  # the last frame has none
    ]
    shared = {"WindowCenter": 3000, "WindowWidth": 100}
    return {
        "SharedFunctionalGroupsSequence": items({"FrameVOILUTSequence": items(shared)}),
        "PerFrameFunctionalGroupsSequence": items(*frame),
        "PatientComments": PATIENT,
    }


@pytest.mark.parametrize("written", ["lengths", "delimiters", "implicit"])
def test_each_frame_has_its_own_window_and_nothing_of_the_patient(
    written: str, tmp_path: Path
) -> None:
    data = stack(**groups())
    if written != "lengths":
        dataset = pydicom.dcmread(io.BytesIO(data))
        dataset.PerFrameFunctionalGroupsSequence.is_undefined_length = True
        dataset["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
        for item in dataset.PerFrameFunctionalGroupsSequence:
            item.is_undefined_length_sequence_item = True
            for element in item:
                element.is_undefined_length = True
        if written == "implicit":
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        buffer = io.BytesIO()
        dataset.save_as(buffer, implicit_vr=written == "implicit", little_endian=True)
        assert len(buffer.getvalue()) != len(data)
        data = buffer.getvalue()
    assert data.count(PATIENT.encode()) == 7
    made = found(data, tmp_path)
    for i, (each, picture) in enumerate(zip(made, PICTURES, strict=True)):
        assert b"Quincey" not in each
        told: dict[str, Any] = {"WindowCenter": 500 * i + 200, "WindowWidth": 400 + i}
        told |= {"RescaleSlope": 1, "RescaleIntercept": -100 * i}
        if i == 4:
            told = {"WindowCenter": 3000, "WindowWidth": 100}
        alone = np.asarray(decode(dicom(picture, 12, **told)))
        np.testing.assert_array_equal(np.asarray(decode(each)), alone)
        assert len(np.unique(alone)) > 2


def test_tags_of_a_frame_file_are_those_of_pixels(tmp_path: Path) -> None:
    data = found(stack(Manufacturer="A", StudyDate="20260101"), tmp_path)[2]
    dataset = pydicom.dcmread(io.BytesIO(data))
    assert {element.keyword for element in dataset} == {
        *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns"),
        *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "WindowCenter"),
        *("WindowWidth", "PixelData"),
    }
    assert [element.keyword for element in dataset.file_meta] == [
        "FileMetaInformationGroupLength",
        "TransferSyntaxUID",
    ]
    assert dataset.NumberOfFrames == 1


def test_palettes_and_tables_are_of_every_frame(tmp_path: Path) -> None:
    greys = [(picture >> 4).astype(np.uint8) for picture in PICTURES]
    for data, grey in zip(
        found(dicom(greys[0], 8, "PALETTE COLOR", more=greys[1:]), tmp_path), greys, strict=True
    ):
        np.testing.assert_array_equal(np.asarray(decode(data))[..., 1], grey)
    squared = (np.arange(4096) ** 2 // 4096).astype("<u2")
    table = {"LUTDescriptor": [4096, 0, 12], "LUTData": squared.tobytes(), "ModalityLUTType": "US"}
    told = {"ModalityLUTSequence": items(table | {"LUTExplanation": PATIENT})}
    for data, picture in zip(found(stack(**told), tmp_path), PICTURES, strict=True):
        assert b"Quincey" not in data
        alone = decode(dicom(picture, 12, **told, **WINDOW))
        np.testing.assert_array_equal(np.asarray(decode(data)), np.asarray(alone))


# --- how they are read ------------------------------------------------------------------------


def test_frames_side_by_side_come_in_one_request_and_are_named_by_a_list(tmp_path: Path) -> None:
    (tmp_path / "IM0001").write_bytes(stack())
    info = stat(f"file://{tmp_path}/IM0001")
    rows = [
        {"uri": f"{info.uri}#{row['name']}", "etag": f"{info.etag}#{row['place']}"} | row
        for row in listed(tmp_path / "IM0001")
    ]
    (fetch,) = planned(rows)
    assert fetch.bytes == 5 * 1200 == sum(row["size"] for row in rows)
    parts, _ = fetch.read()
    assert parts == [read_named(row["uri"]) for row in rows]
    assert len(set(parts)) == 5  # type: ignore[arg-type]
    with pytest.raises(StorageError) as missing:
        read_named(f"{info.uri}#6")
    assert missing.value.code == ErrorCode.NOT_FOUND


def test_a_replaced_file_gives_no_frame_of_the_other_version(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(stack())
    etag, third = stat(f"file://{path}").etag, listed(path)[2]
    path.write_bytes(stack() + b"\0\0")
    with pytest.raises(StorageError) as replaced:
        read_version(f"file://{path}#3", f"{etag}#{third['place']}")
    assert replaced.value.code == ErrorCode.CHANGED


def test_without_the_extra_a_frame_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(stack())
    place = listed(path)[1]["place"]
    hide_extras(monkeypatch, "dicom")
    monkeypatch.setitem(__import__("sys").modules, "pydicom.datadict", None)
    with pytest.raises(StorageError, match=r'pip install "adaclip-pipeline\[dicom\]"') as told:
        read_version(f"file://{path}#2", f"{stat(f'file://{path}').etag}#{place}")
    assert told.value.code == ErrorCode.UNSUPPORTED_MODE


# --- damage, and what only claims to be many ---------------------------------------------------


def test_a_file_that_is_cut_has_the_frames_up_to_there_and_a_row_that_says_so(
    tmp_path: Path,
) -> None:
    for coding in ("", "jpegls"):
        path = tmp_path / "a.dcm"
        path.write_bytes(stack(coding)[:-2000])
        *whole, last = listed(path)
        assert 1 <= len(whole) < 5
        assert {row["error"] for row in whole} == {None}
        assert (last["name"], last["error"]) == (str(len(whole) + 1), "truncated")
        assert last["error_message"] == (f"its header claims 5 frames; the file holds {len(whole)}")


def test_more_frames_than_a_file_may_have_are_one_row(tmp_path: Path) -> None:
    data = dicom(np.zeros((1, 1), np.uint8), 8, frames=2, PixelData=bytes(MAX_FRAMES + 10))
    path = tmp_path / "a.dcm"
    path.write_bytes(rewritten(data, NumberOfFrames=2_000_000_000))
    rows = listed(path)
    assert len(rows) == MAX_FRAMES + 1
    assert rows[-1]["error"] == "unsupported_mode"
    assert "claims 2,000,000,000 frames; at most 100,000" in rows[-1]["error_message"]


PLAIN = {
    "one frame": dicom(PICTURES[0], 12),
    "no pixels": dicom(None, 0, NumberOfFrames=7),
    "cut in the header": stack()[:400],
    "cut in the first frame": stack()[:-5500],
    "deflated": stack().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99", 1),
    "video": stack().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4\0", 1),
    "no size": rewritten(stack(), Rows=0),
    "a number that is none": stack().replace(b"\x28\0\x08\0IS\2\0005 ", b"\x28\0\x08\0IS\2\0-5"),
    "no DICOM": b"\x89PNG" * 900,
}


@pytest.mark.parametrize("kind", PLAIN)
def test_what_has_no_frames_that_can_be_told_apart_stays_one_object(
    kind: str, tmp_path: Path
) -> None:
    (tmp_path / "a.dcm").write_bytes(PLAIN[kind])
    (row,) = listed(tmp_path / "a.dcm")
    assert set(row.values()) == {None}


@pytest.mark.parametrize("coding", ["", "jpegls"])
def test_damage_anywhere_in_a_header_is_a_row_or_a_picture(coding: str, tmp_path: Path) -> None:
    data = stack(coding, **groups())
    end = data.index(struct.pack("<HH", 0x7FE0, 0x0010)) + 40
    random = np.random.default_rng(0)
    path, told = tmp_path / "a.dcm", ""
    for _ in range(300):
        damaged = bytearray(data)
        for at in random.integers(132, end, 3):
            damaged[at] = random.integers(256)
        path.write_bytes(bytes(damaged))
        etag = stat(f"file://{path}").etag
        for row in listed(path):
            if row["name"] is None or row["error"] is not None:
                continue
            try:
                made = read_version(f"file://{path}#{row['name']}", f"{etag}#{row['place']}")
                decode(made, max_megapixels=1)
            except (StorageError, ImageError) as error:
                told += str(error)
    assert told
    assert "Quincey" not in told


def test_a_value_that_claims_to_be_longer_takes_nothing_of_what_follows(tmp_path: Path) -> None:
    """A window that would reach to the patient's comments, behind the item that holds it."""
    data = stack(**groups())
    at = data.index(b"DS\6\x00200.0 ") + 2
    data = data[:at] + struct.pack("<H", 600) + data[at + 2 :]
    path = tmp_path / "a.dcm"
    path.write_bytes(data)
    etag = stat(f"file://{path}").etag
    for row in listed(path):
        assert b"Quincey" not in read_version(
            f"file://{path}#{row['name']}", f"{etag}#{row['place']}"
        )


def test_a_header_is_looked_at_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    path = tmp_path / "a.dcm"
    path.write_bytes(stack(PatientComments="x" * 300_000))
    assert len(listed(path)) == 5  # behind the first bytes that are looked at
    read = frames.ShardFile.read_at

    def noting(file: Any, start: int, length: int) -> bytes:
        asked.append(start + length)
        return read(file, start, length)

    monkeypatch.setattr(frames.ShardFile, "read_at", noting)
    monkeypatch.setattr(frames, "HEADER_BYTES", (1 << 16, 1 << 17))
    (row,) = listed(path)
    assert row["name"] is None
    assert max(asked) == 1 << 17
