"""DICOM frames as a viewer shows them, and nothing of a patient."""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from infra.docs.dicom_files import PATIENT, dicom
from infra.docs.format_case import GRAY, RGB, TWELVE, U16
from pipeline.gray_range import GrayRange
from pipeline.images import ImageError, decode, to_square
from pipeline.schema import ErrorCode

HOUNSFIELD = {"RescaleSlope": 2, "RescaleIntercept": -1024}


def pixels(data: bytes, gray_range: GrayRange | None = None) -> NDArray[np.uint8]:
    decoded = np.asarray(decode(data, gray_range=gray_range))
    assert (decoded == decoded[..., :1]).all()
    return decoded[..., 0]


def refused(data: bytes, **options: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    return caught.value


def item(**tags: Any) -> Sequence:
    made = Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return Sequence([made])


def table(values: NDArray[Any], bits: int, first: int = 0) -> dict[str, Any]:
    return {"LUTDescriptor": [len(values), first, bits], "LUTData": values.astype("<u2").tobytes()}


def linear(values: NDArray[Any], centre: float, width: float) -> NDArray[np.uint8]:
    """PS3.3, C.11.2.1.2.1, with 0 and 255 as the ends."""
    x = values.astype(float)
    y = ((x - (centre - 0.5)) / (width - 1) + 0.5) * 255
    y = np.where(x <= centre - 0.5 - (width - 1) / 2, 0, y)
    y = np.where(x > centre - 0.5 + (width - 1) / 2, 255, y)
    return np.floor(y + 0.5).astype(np.uint8)


def test_a_window_is_linear_in_values_of_the_modality() -> None:
    shown = pixels(dicom(U16, 12, **HOUNSFIELD, WindowCenter=[40, 500], WindowWidth=[400, 2000]))
    np.testing.assert_array_equal(shown, linear(TWELVE * 2 - 1024, 40, 400))
    assert len(np.unique(shown)) > 2


@pytest.mark.parametrize("bits", [12, 16])
def test_signed_values_and_a_window_that_is_exact(bits: int) -> None:
    stored = (TWELVE - 2048).astype(np.int16)
    if bits == 12:  # the bits above hold an overlay, as in old files
        stored = (stored & 0x0FFF | 0x1000).astype(np.int16)
    exact = {"WindowCenter": 0, "WindowWidth": 4095, "VOILUTFunction": "LINEAR_EXACT"}
    shown = pixels(dicom(stored, bits, **exact))
    expected = np.clip((TWELVE - 2048 + 2047.5) / 4095 * 255 + 0.5, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(shown, expected)


def test_a_window_that_is_a_sigmoid() -> None:
    told = {"WindowCenter": 2048, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"}
    expected = 255 / (1 + np.exp(-4 * (TWELVE - 2048) / 1000))
    np.testing.assert_array_equal(pixels(dicom(U16, 12, **told)), (expected + 0.5).astype(np.uint8))


def test_tables_of_the_modality_and_of_values_of_interest() -> None:
    squared = (np.arange(4096) ** 2 // 4096).astype(np.uint16)
    modality = item(**table(squared, 12), ModalityLUTType="US")
    shown = pixels(dicom(U16, 12, ModalityLUTSequence=modality))
    np.testing.assert_array_equal(shown, (squared[TWELVE] * (255 / 4095) + 0.5).astype(np.uint8))
    interest = item(**table(squared[1000:3000] >> 4, 8, first=1000))
    shown = pixels(dicom(U16, 12, VOILUTSequence=interest, WindowCenter=1, WindowWidth=2))
    np.testing.assert_array_equal(shown, squared[np.clip(TWELVE, 1000, 2999)] >> 4)


def test_each_frame_may_have_a_window_of_its_own_and_the_first_is_shown() -> None:
    def frame(centre: int) -> Dataset:
        made = Dataset()
        made.FrameVOILUTSequence = item(WindowCenter=centre, WindowWidth=500)
        return made

    groups: dict[str, Any] = {
        "SharedFunctionalGroupsSequence": item(
            PixelValueTransformationSequence=item(RescaleSlope=1, RescaleIntercept=-100)
        ),
        "PerFrameFunctionalGroupsSequence": Sequence([frame(1000), frame(3000)]),
        "WindowCenter": 7,
        "WindowWidth": 9,
    }
    data = dicom(U16, 12, frames=2, **groups)
    np.testing.assert_array_equal(pixels(data), linear(TWELVE - 100, 1000, 500))
    assert to_square(decode(data), 8).frames == 2


@pytest.mark.parametrize(
    "inverse", [{"photometric": "MONOCHROME1"}, {"PresentationLUTShape": "INVERSE"}]
)
def test_what_is_inverted_is_inverted_with_a_range_too(inverse: dict[str, str]) -> None:
    data = dicom(4095 - U16, 12, **inverse, WindowCenter=1, WindowWidth=2)
    np.testing.assert_array_equal(pixels(data, GrayRange(0, 4095)), GRAY)


def test_a_range_is_one_of_the_modality_and_replaces_windows() -> None:
    data = dicom(U16, 12, **HOUNSFIELD, WindowCenter=1, WindowWidth=2)
    np.testing.assert_array_equal(pixels(data, GrayRange(-1024, 2 * 4095 - 1024)), GRAY)


def test_8_bits_are_what_they_are_also_with_a_range() -> None:
    data = dicom(GRAY, 8)
    np.testing.assert_array_equal(pixels(data), GRAY)
    np.testing.assert_array_equal(pixels(data, GrayRange(0, 4095)), GRAY)


@pytest.mark.parametrize("width", [0, -5, "nan"])
def test_a_window_of_no_width_is_none(width: Any) -> None:
    data = dicom(U16, 12, WindowCenter=10, WindowWidth=4096)
    assert data.count(b"4096.0") == 1
    data = data.replace(b"4096.0", str(width).ljust(6).encode())
    np.testing.assert_array_equal(pixels(data), GRAY)


def test_values_that_use_little_of_their_bits_are_told() -> None:
    share = to_square(decode(dicom(U16, 16)), 8).deep_share
    assert share == pytest.approx(np.ptp(TWELVE) / 65_535)
    assert to_square(decode(dicom(U16, 16, WindowCenter=5, WindowWidth=9)), 8).deep_share is None


def test_more_than_16_bits_have_no_range() -> None:
    wide = dicom(U16.astype(np.uint32), 32)
    assert "--gray-range" in str(refused(wide))
    np.testing.assert_array_equal(pixels(wide, GrayRange(0, 4095)), GRAY)


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("liver_expb_1frame.dcm", "liver_1frame.dcm"),
        ("SC_rgb_rle.dcm", "SC_rgb_dcmtk_+eb+cr.dcm"),
        ("SC_rgb_rle_16bit.dcm", "SC_rgb_rle.dcm"),
        ("SC_rgb_dcmtk_+eb+cy+n1.dcm", "SC_rgb_dcmtk_+eb+cr.dcm"),
        ("SC_rgb_dcmtk_+eb+cy+s4.dcm", "SC_rgb_dcmtk_+eb+cr.dcm"),
        ("SC_ybr_full_422_uncompressed.dcm", "SC_rgb_dcmtk_+eb+cr.dcm"),
        ("SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_dcmtk_+eb+cr.dcm"),
        ("SC_rgb_jls_lossy_line.dcm", "SC_rgb_dcmtk_+eb+cr.dcm"),
        ("SC_rgb_jpeg_lossy_gdcm.dcm", "SC_rgb_dcmtk_+eb+cr.dcm"),
    ],
)
def test_files_of_other_programs_show_one_picture_however_it_is_coded(name: str, like: str) -> None:
    """Files that come with pydicom, made by dcmtk, GDCM and scanners."""

    def bundled(file: str) -> NDArray[np.int64]:
        path = get_testdata_file(file, download=False)
        assert isinstance(path, str)
        return np.asarray(decode(Path(path).read_bytes()), np.int64)

    lossless = name.startswith(("MR", "liver")) or name == "SC_rgb_rle_16bit.dcm"
    assert np.abs(bundled(name) - bundled(like)).mean() <= (0 if lossless else 3)


def test_high_throughput_jpeg_2000_inside() -> None:
    data = dicom(U16, 12, coding="jpeg2k")
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
    dataset.PixelData = encapsulate([imagecodecs.htj2k_encode(U16, reversible=True)])
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.HTJ2KLossless
    buffer = pydicom.filebase.DicomBytesIO()
    dataset.save_as(buffer)
    np.testing.assert_array_equal(pixels(buffer.getvalue()), GRAY)


# --- nothing of a patient -------------------------------------------------------------------


def odd() -> list[bytes]:
    """Files of the patient that fail in many ways."""
    whole = dicom(U16, 12, coding="ljpeg", WindowCenter=10, WindowWidth=20)
    private = dicom(U16, 12, PatientBirthDate="19011231", PhotometricInterpretation=PATIENT)
    return [
        *[whole[:length] for length in range(whole.index(b"Quincey") + 60, len(whole), 37)],
        dicom(None, 0, PatientComments=PATIENT),
        dicom(U16, 12).replace(b"MONOCHROME2", b"Quincey^Mor"),
        dicom(U16, 12).replace(
            b"\x28\x00\x10\x00US\x02\x00\x18\x00", b"\x28\x00\x10\x00PN\x02\x00Qu"
        ),
        dicom(U16, 12, WindowCenter=1, WindowWidth=12345678).replace(b"12345678", b"Quincey^"),
        private,
    ]


@pytest.mark.parametrize("data", odd())
def test_no_word_of_a_patient_is_said(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert b"Quincey" in data
    with warnings.catch_warnings(record=True) as told, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        try:
            image = decode(data)
            shown = repr(image.info)
        except ImageError as error:
            shown = str(error)
    assert told == []
    assert "Quincey" not in shown + caplog.text


def test_tags_of_the_patient_are_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[Dataset] = []
    read = pydicom.dcmread

    def noting(*arguments: Any, **options: Any) -> Dataset:
        parsed.append(read(*arguments, **options))
        return parsed[-1]

    monkeypatch.setattr(pydicom, "dcmread", noting)
    decode(dicom(U16, 12))
    assert "PatientName" not in parsed[0]
    assert "Rows" in parsed[0]


# --- what is no picture, or not one of ours -------------------------------------------------


def directory() -> bytes:
    """A DICOMDIR of two series."""
    series = [
        *item(DirectoryRecordType="SERIES", Modality="CT", SeriesNumber=1),
        *item(DirectoryRecordType="SERIES", Modality="CT", SeriesNumber=2),
    ]
    data = dicom(None, 0, DirectoryRecordSequence=Sequence(series))
    return data.replace(b"1.2.840.10008.5.1.4.1.1.7\0", b"1.2.840.10008.1.3.10\0\0\0\0\0\0")


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (dicom(None, 0), ErrorCode.NOT_AN_IMAGE, "without pixels, such as a report"),
        (directory(), ErrorCode.NOT_AN_IMAGE, "a DICOMDIR"),
        (dicom(U16, 12).replace(b"MONOCHROME2", b"CMYK       "), None, "colour space"),
        (
            dicom(U16, 12).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0"),
            None,
            "transfer",
        ),
    ],
)
def test_what_holds_no_picture_says_so(data: bytes, code: ErrorCode | None, words: str) -> None:
    error = refused(data)
    assert error.code == (code or ErrorCode.UNSUPPORTED_MODE)
    assert words in str(error)


ROWS, COLUMNS = b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x11\x00US\x02\x00"


def of_size(data: bytes, rows: int, columns: int) -> bytes:
    """The file with another declared size."""
    for tag, value in ((ROWS, rows), (COLUMNS, columns)):
        at = data.index(tag) + len(tag)
        data = data[:at] + struct.pack("<H", value) + data[at + 2 :]
    return data


@pytest.mark.parametrize("coding", ["", "rle", "jpeg2k", "ljpeg", "jpegls"])
def test_a_declared_size_is_refused_before_anything_is_decoded(
    coding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pydicom.pixels, "get_decoder", None)
    error = refused(of_size(dicom(U16, 12, coding=coding), 60_000, 60_000))
    assert (error.code, error.width, error.height) == (ErrorCode.TOO_LARGE, 60_000, 60_000)


@pytest.mark.parametrize("coding", ["jpeg2k", "ljpeg", "jpegls"])
def test_compressed_pixels_of_another_size_are_not_decoded(
    coding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = of_size(dicom(U16, 12, coding=coding), 8, 8)
    monkeypatch.setattr(pydicom.pixels, "get_decoder", None)
    for codec in ("jpeg8", "jpegls"):
        monkeypatch.setattr(imagecodecs, f"{codec}_decode", None)
    error = refused(data)
    assert (error.code, "(ValueError)" in str(error)) == (ErrorCode.TRUNCATED, True)


def test_runs_that_unpack_to_more_than_a_frame_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(dicom(GRAY, 8, coding="rle")))
    runs = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * 1000  # of 128 bytes each
    dataset.PixelData = encapsulate([runs])
    buffer = pydicom.filebase.DicomBytesIO()
    dataset.save_as(buffer)
    monkeypatch.setattr(pydicom.pixels, "get_decoder", None)
    assert refused(buffer.getvalue()).code == ErrorCode.TRUNCATED


def test_a_deflated_file_is_inflated_up_to_a_limit_only() -> None:
    data = dicom(U16, 12)
    start = data.index(b"\x08\x00\x16\x00UI")
    head = data[:start].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    length = struct.unpack("<I", head[140:144])[0]
    head = head[:140] + struct.pack("<I", length + 2) + head[144:]
    at = head.index(b"1.2.840.10008.1.2.1.99") - 2
    head = head[:at] + struct.pack("<H", 22) + head[at + 2 :]

    def deflated(body: bytes) -> bytes:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return head + packer.compress(body) + packer.flush()

    np.testing.assert_array_equal(pixels(deflated(data[start:])), GRAY)
    error = refused(deflated(data[start:] + bytes(20_000_000)), max_megapixels=1)
    assert "a deflated DICOM file of more than" in str(error)


def test_one_bit_and_colours() -> None:
    np.testing.assert_array_equal(np.asarray(decode(dicom(RGB, 8, "RGB"))), RGB)
    data = dicom((GRAY > 99).astype(np.uint8), 1)
    np.testing.assert_array_equal(pixels(data), np.where(GRAY > 99, 255, 0))
