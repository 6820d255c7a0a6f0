"""Where the bits of DICOM pixels lie, and how lookup tables and palettes are written."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from infra.docs.dicom_files import dicom
from infra.docs.format_case import GRAY, RGB, TWELVE, TWELVE_RGB, U16
from pipeline.gray_range import GrayRange
from pipeline.images import ImageError, decode
from pipeline.schema import ErrorCode

NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
PALETTE = np.random.default_rng(3).integers(0, 2**16, (4096, 3)).astype(np.uint16)


def written(
    syntax: UID, pixels: NDArray[Any], bits: int, kind: str = "MONOCHROME2", **tags: Any
) -> bytes:
    """A file whose pixels are written as the syntax has them; tags of words are the caller's."""
    tags = {"PhotometricInterpretation": kind, **tags}
    dataset = pydicom.dcmread(io.BytesIO(dicom(pixels, bits, **tags)))
    if syntax == ExplicitVRBigEndian and pixels.dtype.itemsize > 1:
        dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    if pixels.dtype.itemsize == 1:
        dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    for element in dataset.iterall():  # values are encoded anew, not copied
        _ = element.value
    buffer = io.BytesIO()
    pydicom.dcmwrite(
        buffer,
        dataset,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        force_encoding=True,
    )
    return buffer.getvalue()


def words(values: NDArray[Any], syntax: UID) -> bytes:
    return values.astype("<u2" if syntax.is_little_endian else ">u2").tobytes()


def packed(values: NDArray[Any], syntax: UID) -> bytes:
    """8-bit values in the words of OW, the first in a word's lower byte."""
    even = values.astype(np.uint8).tobytes() + bytes(len(values) % 2)
    return words(np.frombuffer(even, "<u2"), syntax)


def palette(tables: list[bytes], number: int, bits: int, first: int = 0, name: str = "") -> Any:
    tags: dict[str, Any] = {}
    for colour, data in zip(("Red", "Green", "Blue"), tables, strict=True):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [number, first, bits]
        tags[f"{name}{colour}PaletteColorLookupTableData"] = data
    return tags


def table(number: int, first: int, bits: int, data: Any, kind: str = "US") -> Dataset:
    made = Dataset()
    made.add_new(0x00283002, kind, [number, first, bits])
    made.add_new(0x00283006, "OW" if isinstance(data, bytes) else "US", data)
    return made


def shown(data: bytes, gray_range: GrayRange | None = None) -> NDArray[np.uint8]:
    return np.asarray(decode(data, gray_range=gray_range))


# --- where bits lie -------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize(("high", "noise"), [(15, 0xF), (13, 0xC003)])
def test_stored_bits_end_at_the_high_bit(syntax: UID, high: int, noise: int) -> None:
    cells = (TWELVE << high - 11 | noise).astype(np.uint16)
    data = written(syntax, cells, 12, HighBit=high)
    np.testing.assert_array_equal(shown(data)[..., 0], GRAY)
    colours = (TWELVE_RGB << high - 11 | noise).astype(np.uint16)
    data = written(syntax, colours, 12, "RGB", HighBit=high)
    np.testing.assert_array_equal(shown(data), RGB)


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("high", [15, 13])
def test_signed_bits_end_at_the_high_bit(syntax: UID, high: int) -> None:
    cells = ((TWELVE - 2048) << high - 11 & 0xFFFF).astype(np.uint16).view(np.int16)
    data = written(syntax, cells, 12, HighBit=high)
    np.testing.assert_array_equal(shown(data, GrayRange(-2048, 2047))[..., 0], GRAY)


def test_cells_in_runs_have_a_high_bit_too() -> None:
    data = dicom(U16 << 4, 12, coding="rle", HighBit=15)
    dataset = pydicom.dcmread(io.BytesIO(data))
    assert (dataset.file_meta.TransferSyntaxUID, dataset.HighBit) == (RLELossless, 15)
    np.testing.assert_array_equal(shown(data)[..., 0], GRAY)


@pytest.mark.parametrize("high", [0, 10, 16, 40])
def test_a_high_bit_that_can_not_be_changes_nothing(high: int) -> None:
    np.testing.assert_array_equal(shown(dicom(U16, 12, HighBit=high))[..., 0], GRAY)
    np.testing.assert_array_equal(shown(dicom(U16, 12, coding="jpeg2k", HighBit=15))[..., 0], GRAY)


# --- palettes -------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("first", [0, 50])
def test_palettes_of_bytes_of_bytes_in_words_and_of_words(syntax: UID, first: int) -> None:
    expected = (PALETTE >> 8)[np.clip(GRAY.astype(int) - first, 0, 200)]
    deep = PALETTE[:201].T
    for bits, tables in (
        (8, [packed(each >> 8, syntax) for each in deep]),
        (8, [words(each >> 8, syntax) for each in deep]),
        (16, [words(each, syntax) for each in deep]),
        (8, [words(each, syntax) for each in deep]),  # a descriptor that is wrong
    ):
        tags = palette(tables, 201, bits, first)
        np.testing.assert_array_equal(
            shown(written(syntax, GRAY, 8, "PALETTE COLOR", **tags)), expected
        )


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("number", [200, 4096])
def test_palettes_for_more_than_8_bits(syntax: UID, number: int) -> None:
    expected = (PALETTE >> 8)[np.minimum(TWELVE, number - 1)]
    shallow = (PALETTE[:number] >> 8).T
    for bits, tables in (
        (8, [packed(each, syntax) for each in shallow]),
        (16, [words(each * 257, syntax) for each in shallow]),
    ):
        tags = palette(tables, number, bits)
        for cells, high in ((U16, 11), (U16 << 4, 15)):
            data = written(syntax, cells, 12, "PALETTE COLOR", HighBit=high, **tags)
            np.testing.assert_array_equal(shown(data), expected)


def test_a_palette_for_signed_indices() -> None:
    indices = (GRAY.astype(int) - 120).astype(np.int8)
    tables = [words(each, ImplicitVRLittleEndian) for each in PALETTE[:256].T]
    tags = palette(tables, 256, 16, -120)
    data = written(ImplicitVRLittleEndian, indices, 8, "PALETTE COLOR", **tags)
    np.testing.assert_array_equal(shown(data), (PALETTE >> 8)[GRAY])


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_in_segments(syntax: UID, bits: int) -> None:
    """PS3.3, C.7.9.2: two values, a line of 100, one value; then the line and it again."""
    most = 2**bits - 1
    offset = [4 * bits // 8, 0] if bits == 16 else [4, 0, 0, 0]
    parts = np.array([0, 2, 3, 0, 1, 100, most, 0, 1, 7, 2, 2, *offset])
    data = (words if bits == 16 else packed)(parts, syntax)
    line = np.round(np.arange(1, 101) * most / 100)
    again = np.round(7 + np.arange(1, 101) * (most - 7) / 100)
    entries = np.array([3, 0, *line, 7, *again, 7]).astype(int)
    tags = palette([data] * 3, len(entries), bits, name="Segmented")
    got = shown(written(syntax, GRAY, 8, "PALETTE COLOR", **tags))
    expected = entries[np.minimum(GRAY, len(entries) - 1)] >> bits - 8
    np.testing.assert_array_equal(got, np.repeat(expected[..., None], 3, -1))


@pytest.mark.parametrize(
    "parts", [[1, 5, 9], [0, 1, 9, 2, 1, 6, 0], [0, 1, 9, 0, 0, 0], [3, 1, 9], [0, 2, 1, 2]]
)
def test_segments_that_are_none_are_damage(parts: list[int]) -> None:
    tags = palette([words(np.array(parts), ExplicitVRLittleEndian)] * 3, 256, 16, name="Segmented")
    with pytest.raises(ImageError) as caught:
        shown(written(ExplicitVRLittleEndian, GRAY, 8, "PALETTE COLOR", **tags))
    assert caught.value.code == ErrorCode.TRUNCATED


# --- lookup tables of grays -----------------------------------------------------------------


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("sequence", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("number", [256, 201])
def test_tables_of_8_bits_in_bytes_and_in_words(syntax: UID, sequence: str, number: int) -> None:
    values = (PALETTE[:number, 0] >> 8).astype(np.uint8)
    expected = values[np.minimum(GRAY, number - 1)]
    for data in (packed(values, syntax), words(values, syntax), values.tolist()):
        tags: dict[str, Any] = {sequence: pydicom.Sequence([table(number, 0, 8, data)])}
        got = shown(written(syntax, GRAY, 8, **tags))[..., 0]
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("kind", ["US", "SS"])
def test_a_table_of_rescaled_values_begins_below_zero(syntax: UID, kind: str) -> None:
    """A CT of unsigned pixels: PixelRepresentation 0, but Hounsfield units are looked up."""
    values = (np.arange(2001) * 255 // 2000).astype(np.uint16)
    first = -1000 if kind == "SS" else 2**16 - 1000  # US: as programs write that are mistaken
    tags: dict[str, Any] = {
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "VOILUTSequence": pydicom.Sequence([table(2001, first, 8, words(values, syntax), kind)]),
    }
    got = shown(written(syntax, U16, 12, **tags))[..., 0]
    np.testing.assert_array_equal(got, values[np.clip(TWELVE - 1024 + 1000, 0, 2000)])


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("signed", [False, True])
def test_a_table_of_values_that_are_never_negative_begins_above_32767(
    syntax: UID, signed: bool
) -> None:
    values = (np.arange(4096) // 16).astype(np.uint16)
    cells = (TWELVE + 40_000).astype(np.uint16)
    tags: dict[str, Any] = {"RescaleSlope": 1, "RescaleIntercept": 32768 if signed else 0}
    pixels = (cells.astype(int) - 32768).astype(np.int16) if signed else cells
    tags["VOILUTSequence"] = pydicom.Sequence([table(4096, 40_000, 8, words(values, syntax))])
    np.testing.assert_array_equal(shown(written(syntax, pixels, 16, **tags))[..., 0], TWELVE // 16)


def test_a_table_that_may_begin_at_two_values_is_refused() -> None:
    data = table(100, 2**16 - 2000, 8, words(np.arange(100), ExplicitVRLittleEndian))
    tags: dict[str, Any] = {
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "VOILUTSequence": pydicom.Sequence([data]),
    }
    made = written(ExplicitVRLittleEndian, U16, 16, **tags)
    with pytest.raises(ImageError, match="begins at 63536 or at -2000") as caught:
        shown(made)
    assert caught.value.code == ErrorCode.UNSUPPORTED_MODE
    np.testing.assert_array_equal(shown(made, GrayRange(-1024, 4095 - 1024))[..., 0], GRAY)
