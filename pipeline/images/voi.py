"""Gray of a DICOM frame → 8 bits: the modality's values, then the window that the file names.

PS3.3 of the standard, C.11.1 (modality LUT) and C.11.2 (values of interest, VOI). How its lookup
tables are written, which is how palettes are, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.gray_range import GrayRange

from .gray import ranged
from .samples import Samples, UnreadError

_RANGE = "range; give one (--gray-range, in values of the modality such as Hounsfield units)"
_VALUES = 1 << 22  # that are converted at a time, so that floats of all never lie in memory
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Step:
    """One mapping of values, and the range that its results can have."""

    apply: Callable[[_Floats], _Floats]
    low: float
    high: float


def grays(values: NDArray[Any], dataset: Any, frames: int, gray_range: GrayRange | None) -> Samples:
    """Stored values [H, W] as uint8, black 0.

    Of more than 8 bits by ``gray_range`` of the modality's values (Hounsfield units of a CT), where
    it is given; else by the file's first window, or its VOI LUT; else by all values that its bits
    can hold, if they are no signed ones.

    Raises:
        UnreadError: signed values, or of more than 16 bits, with neither; a table that may begin
            at two values.
        ValueError: a table or a number of the file is none.
    """
    bits, signed = int(dataset.BitsStored), bool(dataset.get("PixelRepresentation") or 0)
    modality = _modality(dataset, *stored_range(bits, signed))
    shown: _Step | None = None
    if gray_range is None or (bits <= 8 and not signed):
        gray_range, shown = None, _window(dataset, modality)
    unbounded = (signed or bits > 16) and not dataset.get("ModalityLUTSequence")
    if shown is None and gray_range is None and unbounded:
        kind = "signed values" if signed else f"values of {bits} bits"
        raise UnreadError(f"a DICOM file of {kind} without a window, which have no fixed {_RANGE}")
    low, high = gray_range or _ends(shown or modality)
    flat, pixels = values.reshape(-1), np.empty(values.size, np.uint8)
    least, most = np.inf, -np.inf
    for start in range(0, len(flat), _VALUES):
        part = modality.apply(stored_values(flat[start : start + _VALUES], bits, signed))
        least, most = min(least, part.min()), max(most, part.max())
        part = part if shown is None else shown.apply(part)
        pixels[start : start + _VALUES] = ranged(part, GrayRange(low, high))
    shown_pixels = pixels.reshape(values.shape)
    inverse = str(dataset.get("PresentationLUTShape", "")) == "INVERSE"
    if inverse or str(dataset.PhotometricInterpretation) == "MONOCHROME1":
        shown_pixels = 255 - shown_pixels
    plain = bits > 8 and gray_range is None and shown is None
    share = float((most - least) / (high - low)) if plain else None
    return Samples(shown_pixels, 8, frames=frames, deep_share=share)


def _ends(step: _Step) -> tuple[float, float]:
    return step.low, step.high


def stored_range(bits: int, signed: bool) -> tuple[int, int]:
    """The least and the most that stored bits can mean."""
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def stored_values(values: NDArray[Any], bits: int, signed: bool) -> _Floats:
    """Without what lies in the bits above, where old files keep overlays."""
    whole = values.astype(np.int64) & (2**bits - 1)
    if signed:
        whole = np.where(whole >= 2 ** (bits - 1), whole - 2**bits, whole)
    return np.asarray(whole, np.float64)


def _modality(dataset: Any, low: int, high: int) -> _Step:
    if table := _sequence(dataset, "ModalityLUTSequence"):
        return _lookup(table, low, high)
    slope = _number(_of_frame(dataset, "PixelValueTransformationSequence", "RescaleSlope"), 1.0)
    shift = _number(_of_frame(dataset, "PixelValueTransformationSequence", "RescaleIntercept"), 0.0)
    slope = slope or 1.0
    ends = sorted((low * slope + shift, high * slope + shift))
    return _Step(lambda values: values * slope + shift, *ends)


def _window(dataset: Any, modality: _Step) -> _Step | None:
    if table := _sequence(dataset, "VOILUTSequence"):
        return _lookup(table, modality.low, modality.high)
    told = {
        name: _of_frame(dataset, "FrameVOILUTSequence", name)
        for name in ("WindowCenter", "WindowWidth", "VOILUTFunction")
    }
    centre, width = _number(told["WindowCenter"], np.nan), _number(told["WindowWidth"], np.nan)
    kind = str(told["VOILUTFunction"] or "LINEAR")
    least = 1 if kind == "LINEAR" else 1e-9
    if not (np.isfinite(centre) and np.isfinite(width) and width >= least):
        return None
    if kind == "SIGMOID":
        return _Step(lambda values: 1 / (1 + np.exp(-4 * (values - centre) / width)), 0.0, 1.0)
    if kind == "LINEAR":  # of which the standard counts whole values
        centre, width = centre - 0.5, max(width - 1, 1e-9)
    return _Step(lambda values: values, centre - width / 2, centre + width / 2)


def _lookup(item: Any, low: float, high: float) -> _Step:
    number, first, bits = descriptor(item["LUTDescriptor"], item, low, high)
    table, bits = entries(little_endian(item["LUTData"], item), number, bits)
    if not len(table) or not 1 <= bits <= 16:
        raise ValueError("an empty table")

    def apply(values: _Floats) -> _Floats:
        found = table[np.clip(values - first, 0, len(table) - 1).astype(np.int64)]
        return found.astype(np.float64)

    return _Step(apply, 0.0, float(2**bits - 1))


def descriptor(element: Any, dataset: Any, low: float, high: float) -> tuple[int, int, int]:
    """How a table is written: number of entries, first value that is mapped, bits of an entry.

    The first value is signed where what is looked up, from ``low`` to ``high``, can be (PS3.3,
    C.11.2.1.1). Files of implicit kinds leave that open, and pydicom asks PixelRepresentation,
    which tells nothing of values that are rescaled.

    Raises:
        UnreadError: the file calls it unsigned where it has to be signed, and it may be either.
    """
    number, first, bits = (int(each) & 0xFFFF for each in element.value)
    told = "" if dataset.original_encoding[0] else element.VR
    if first >= 2**15 and (low < 0 or told == "SS"):
        if told == "US" and first <= high:
            raise UnreadError(
                f"a DICOM file of a lookup table that begins at {first} or at {first - 2**16}; "
                "export its frames as 8- or 16-bit PNG before upload"
            )
        first -= 2**16
    return number or 2**16, first, bits


def little_endian(element: Any, dataset: Any) -> bytes:
    """The words of a table, whatever the file's order of bytes."""
    data = element.value
    if not isinstance(data, bytes):  # numbers, of kind US
        return np.asarray(data, np.int64).astype("<u2").tobytes()
    if dataset.original_encoding[1] is False and element.VR != "OB":
        return np.frombuffer(data, ">u2").astype("<u2").tobytes()
    return data


def entries(data: bytes, number: int, bits: int) -> tuple[NDArray[np.uint16], int]:
    """A table's entries [at most ``number``], and the bits of one.

    8 bits lie in a byte or, of some writers, in a word; the length tells (PS3.3, C.7.6.3.1.6).
    """
    if len(data) < 2 * number and len(data) - number in (0, number % 2):
        return np.frombuffer(data, np.uint8)[:number].astype(np.uint16), min(bits, 8)
    return np.frombuffer(data, "<u2")[:number].astype(np.uint16), bits


def _sequence(dataset: Any, name: str) -> Any:
    items = dataset.get(name)
    return items[0] if items else None


def _of_frame(dataset: Any, group: str, name: str) -> Any:
    """A value of the first frame, of all frames, or of the file."""
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        item = _sequence(dataset, groups)
        below = None if item is None else _sequence(item, group)
        if below is not None and name in below:
            return below.get(name)
    return dataset.get(name)


def _number(value: Any, default: float) -> float:
    """The first of several."""
    if value is None or value == "":
        return default
    several = isinstance(value, list | tuple) or type(value).__name__ == "MultiValue"
    return float(value[0] if several else value)
