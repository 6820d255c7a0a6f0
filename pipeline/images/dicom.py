"""DICOM: the first frame as a viewer shows it, by pydicom. Nothing of a patient is read.

Only the tags that tell of pixels are parsed, and messages are this module's own: pydicom's quote
values, which may be names.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.gray_range import GrayRange

from . import codestreams
from .extras import module
from .headers import claim
from .samples import Samples, UnreadError, within
from .voi import descriptor, entries, grays, little_endian, stored_range, stored_values

DEFLATED = "1.2.840.10008.1.2.1.99"
NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", DEFLATED)
_RLE = "1.2.840.10008.1.2.5"
_JPEG = tuple(f"1.2.840.10008.1.2.4.{kind}" for kind in (50, 51, 57, 70, 80, 81))
_JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{kind}" for kind in (90, 91, 201, 202, 203))
SYNTAXES = (*NATIVE, _RLE, *_JPEG, *_JPEG_2000)
_DIRECTORY = "1.2.840.10008.1.3.10"  # the class of a DICOMDIR
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PALETTE = "PALETTE COLOR"
PARSED = [
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable"),
    *("ExtendedOffsetTableLengths", "PresentationLUTShape", "ModalityLUTSequence"),
    *("RescaleSlope", "RescaleIntercept", "VOILUTSequence", "VOILUTFunction", "WindowCenter"),
    *("WindowWidth", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor"),
    *("BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData"),
    *("SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData"),
    "SegmentedBluePaletteColorLookupTableData",
]
_EXPORT = "export its frames as 8- or 16-bit PNG before upload"
_quiet = threading.Lock()  # filters of warnings are the whole process's


class NoPixelsError(Exception):
    """A DICOM file that holds no image."""


def is_dicom(data: bytes) -> bool:
    """Whether the bytes are a file of DICOM, part 10."""
    return data[128:132] == b"DICM"


def read(data: bytes, limit: int, gray_range: GrayRange | None = None) -> Samples:
    """The first frame.

    Args:
        data: the file.
        limit: pixels.
        gray_range: of gray of more than 8 bits, in values of the modality (``voi.grays``).

    Raises:
        MissingExtraError: a package is not installed.
        NoPixelsError: a report, a structure set, a directory.
        TooLargeError: by its tags.
        UnreadError: of a kind that is not read.
        Exception: whatever a decoder makes of damage.
    """
    pydicom = module("pydicom", "dicom")
    syntax = _checked_syntax(data, limit)
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.config.logger.disabled = True  # what is wrong with a value quotes it
        dataset = pydicom.dcmread(io.BytesIO(data), specific_tags=PARSED)
        frames = _check(dataset, syntax, limit)
        values = _frame(dataset, syntax, frames, limit)
        kind = str(dataset.PhotometricInterpretation)
        bits = int(dataset.BitsStored)
        if kind in _GRAY:
            return grays(values, dataset, frames, gray_range)
        if kind == _PALETTE:
            values, bits = _coloured(values, dataset), 8
        if values.ndim != 3 or values.shape[2] != 3:
            raise ValueError("colours without three samples")
        return Samples(values, bits, frames=frames)


def transfer_syntax(data: bytes) -> tuple[str, int]:
    """The transfer syntax, and where the data set begins.

    Raises:
        NoPixelsError: the file is a directory.
        struct.error: it ends before.
    """
    found: dict[int, str] = {}
    at = 132
    while data[at : at + 2] == b"\2\0":  # group 2, always little-endian with explicit types
        tag, kind = struct.unpack_from("<2xH2s", data, at)
        long = kind in (b"OB", b"OW", b"UN", b"UT", b"SQ")
        (length,) = struct.unpack_from("<I" if long else "<H", data, at + (8 if long else 6))
        start = at + (12 if long else 8)
        found[tag] = data[start : start + min(length, 64)].decode("ascii", "replace").strip("\0 ")
        at = start + length
    if found.get(2) == _DIRECTORY:
        raise NoPixelsError("a DICOMDIR, which only lists files; leave it out with --exclude")
    return found.get(16, ""), at


def _checked_syntax(data: bytes, limit: int) -> str:
    """The transfer syntax, once what may be inflated is known to have a bounded length."""
    syntax, at = transfer_syntax(data)
    if syntax == DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        most = 8 * limit + (1 << 20)
        if len(inflater.decompress(data[at:], most + 1)) > most:
            raise UnreadError(f"a deflated DICOM file of more than {most:,} bytes; {_EXPORT}")
    return syntax


def _check(dataset: Any, syntax: str, limit: int) -> int:
    """Refuse what is not read, before memory is taken for it; gives the number of frames."""
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise UnreadError(f"a DICOM file of floating-point pixels; {_EXPORT}")
    if "PixelData" not in dataset or "Rows" not in dataset:
        raise NoPixelsError(
            "a DICOM file without pixels, such as a report; leave it out with --exclude"
        )
    if syntax not in SYNTAXES:
        raise UnreadError(f"a DICOM file of a transfer syntax that is not read; {_EXPORT}")
    kind = str(dataset.PhotometricInterpretation)
    samples = int(dataset.SamplesPerPixel)
    if samples != (3 if kind in _COLOURS else 1) or kind not in (*_GRAY, *_COLOURS, _PALETTE):
        raise UnreadError(f"a DICOM file of a colour space that is not read; {_EXPORT}")
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    most = min(allocated, 16) if kind == _PALETTE else allocated
    if allocated not in (1, 8, 16, 32) or not 1 <= stored <= most:
        raise UnreadError(f"a DICOM file of {stored} in {allocated} bits; {_EXPORT}")
    within(int(dataset.Columns), int(dataset.Rows), limit, samples * max(1, allocated // 8))
    return max(1, int(dataset.get("NumberOfFrames") or 1))


def _frame(dataset: Any, syntax: str, frames: int, limit: int) -> NDArray[Any]:
    """[H, W] or [H, W, 3] of the first frame; RGB, where it is stored as luminance and colour."""
    height, width = int(dataset.Rows), int(dataset.Columns)
    if syntax in NATIVE:
        return _of_cells(dataset, syntax)
    part = module("pydicom.encaps").get_frame(
        dataset.PixelData,
        0,
        number_of_frames=frames,
        extended_offsets=_extended(dataset),
    )
    if syntax == _RLE:
        _check_runs(part, width * height)
        return _of_cells(dataset, syntax)
    told = claim(part)
    if told is None:
        raise ValueError("no header of compressed pixels")
    if (told.width, told.height) != (width, height):
        raise ValueError("compressed pixels of another size than the file's")
    if syntax in _JPEG_2000:
        module("openjpeg", "dicom")
        return _decoded(dataset, syntax, "pylibjpeg")
    if told.bits == 8 and told.kind in (0xC0, 0xC1, 0xC2):
        return _decoded(dataset, syntax, "pillow")
    module("imagecodecs", "dicom", "formats")
    values = codestreams.read(part, limit).values
    if str(dataset.PhotometricInterpretation).startswith("YBR_FULL"):
        convert = module("pydicom.pixels").convert_color_space
        values = convert(values, "YBR_FULL", "RGB")
    return np.asarray(values)


def _extended(dataset: Any) -> tuple[Any, Any] | None:
    names = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
    offsets, lengths = (dataset.get(name) for name in names)
    return None if offsets is None or lengths is None else (offsets, lengths)


def _of_cells(dataset: Any, syntax: str) -> NDArray[Any]:
    """Values that lie in cells of BitsAllocated, their lowest bit at HighBit + 1 - BitsStored.

    PS3.5, 8.1.1; also of runs (annex G). pydicom never looks at HighBit. Other compressed streams
    hold no cells, and tell their bits themselves.
    """
    bits, spare = int(dataset.BitsStored), int(dataset.BitsAllocated) - int(dataset.BitsStored)
    below = int(dataset.get("HighBit") or 0) + 1 - bits
    if not 0 < below <= spare:  # as usual, or impossible
        return _decoded(dataset, syntax)
    values = _decoded(dataset, syntax, correct_unused_bits=False)
    values >>= below
    values &= 2**bits - 1
    return values


def _decoded(dataset: Any, syntax: str, plugin: str = "", **options: bool) -> NDArray[Any]:
    decoder = module("pydicom.pixels").get_decoder(syntax)
    values: NDArray[Any]
    values, _ = decoder.as_array(dataset, index=0, decoding_plugin=plugin, **options)
    return values


def _coloured(values: NDArray[Any], dataset: Any) -> NDArray[np.uint8]:
    """Indices [H, W] → their colours [H, W, 3] (PS3.3, C.7.6.3.1.5 and C.7.6.3.1.6).

    Not by pydicom's ``apply_color_lut``: to it all words are little-endian ones, and an index above
    255 into a table of bytes wraps.
    """
    bits, signed = int(dataset.BitsStored), bool(dataset.get("PixelRepresentation") or 0)
    described = dataset["RedPaletteColorLookupTableDescriptor"]  # as the others', by the standard
    number, first, depth = descriptor(described, dataset, *stored_range(bits, signed))
    tables = [_colour(dataset, name, number, depth) for name in ("Red", "Green", "Blue")]
    palette = np.stack([table for table, _ in tables], -1)
    if len(palette) < number or len({each for _, each in tables}) > 1 or depth not in (8, 16):
        raise ValueError("a palette that is cut short")
    # Words with more than 8 bits are taken for what they are, whatever the descriptor says.
    depth = 16 if palette.max() > 255 else tables[0][1]
    indices = stored_values(np.arange(2**bits), bits, signed)
    at = np.clip(indices - first, 0, number - 1).astype(np.int64)
    colours = (palette >> (depth - 8)).astype(np.uint8)[at]
    return np.asarray(colours[values.astype(np.uint16) & (2**bits - 1)])


def _colour(dataset: Any, name: str, number: int, depth: int) -> tuple[NDArray[np.uint16], int]:
    """A colour's entries [at most ``number``], and the bits of one."""
    key = f"{name}PaletteColorLookupTableData"
    if key in dataset:
        return entries(little_endian(dataset[key], dataset), number, depth)
    data = little_endian(dataset[f"Segmented{key}"], dataset)
    return _expanded(np.frombuffer(data, np.uint8 if depth == 8 else "<u2"), number), depth


def _expanded(parts: NDArray[Any], number: int) -> NDArray[np.uint16]:
    """The entries [at most ``number``] of a table in segments (PS3.3, C.7.9.2).

    Raises:
        ValueError: a segment is empty, of no kind, or has nothing to begin from.
    """
    found: list[int] = []
    size, words = parts.itemsize, parts[: 6 * number].tolist()  # six make an entry at most

    def add(at: int, most: int, copied: bool) -> None:
        while most and at + 2 < len(words) and len(found) < number:
            kind, length = words[at : at + 2]
            at, most = at + 2, most - 1
            if length == 0:
                raise ValueError("a palette of empty segments")
            if kind == 0:  # values
                found.extend(words[at : at + length])
                at += length
            elif kind == 1 and found:  # a line from the last value
                line = np.linspace(found[-1], words[at], length + 1)[1:]
                found.extend(line.round().astype(int).tolist())
                at += 1
            elif kind == 2 and not copied:  # so many of the segments from an offset in bytes on
                offset = int.from_bytes(parts[at : at + 4 // size].tobytes(), "little")
                add(offset // size, length, copied=True)
                at += 4 // size
            else:
                raise ValueError("a palette of no known segments")

    add(0, len(words), copied=False)
    return np.array(found[:number], np.uint16)


def _check_runs(part: bytes, pixels: int) -> None:
    """Refuse RLE (PS3.5, annex G) that unpacks to more than the frame has.

    Raises:
        ValueError: a segment does, or the header is none.
    """
    (number,) = struct.unpack_from("<I", part)
    if not 1 <= number <= 15:
        raise ValueError("no header of RLE")
    starts = [*struct.unpack_from(f"<{number}I", part, 4), len(part)]
    for start, end in pairwise(starts):
        at, length = start, 0
        while at < min(end, len(part)) - 1 and length <= pixels + 256:
            control = part[at]
            length += control + 1 if control < 128 else (257 - control) % 129
            at += control + 2 if control < 128 else 1 + (control > 128)
        if length > pixels + 256:
            raise ValueError("a segment of RLE is longer than its frame")
