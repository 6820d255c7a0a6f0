"""Gray of a DICOM frame → 8 bits: the modality's values, then the window that the file names.

PS3.3 of the standard, C.11.1 (modality LUT) and C.11.2 (values of interest, VOI).
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
        UnreadError: signed values, or of more than 16 bits, with neither.
        ValueError: a table or a number of the file is none.
    """
    bits, signed = int(dataset.BitsStored), bool(dataset.get("PixelRepresentation") or 0)
    modality = _modality(dataset, *_stored_range(bits, signed))
    shown: _Step | None = None
    if gray_range is None or (bits <= 8 and not signed):
        gray_range, shown = None, _window(dataset)
    unbounded = (signed or bits > 16) and not dataset.get("ModalityLUTSequence")
    if shown is None and gray_range is None and unbounded:
        kind = "signed values" if signed else f"values of {bits} bits"
        raise UnreadError(f"a DICOM file of {kind} without a window, which have no fixed {_RANGE}")
    low, high = gray_range or _ends(shown or modality)
    flat, pixels = values.reshape(-1), np.empty(values.size, np.uint8)
    least, most = np.inf, -np.inf
    for start in range(0, len(flat), _VALUES):
        part = modality.apply(_stored(flat[start : start + _VALUES], bits, signed))
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


def _stored_range(bits: int, signed: bool) -> tuple[int, int]:
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def _stored(values: NDArray[Any], bits: int, signed: bool) -> _Floats:
    """Without what lies in the bits above, where old files keep overlays."""
    whole = values.astype(np.int64) & (2**bits - 1)
    if signed:
        whole = np.where(whole >= 2 ** (bits - 1), whole - 2**bits, whole)
    return np.asarray(whole, np.float64)


def _modality(dataset: Any, low: int, high: int) -> _Step:
    if table := _sequence(dataset, "ModalityLUTSequence"):
        return _lookup(table, dataset)
    slope = _number(_of_frame(dataset, "PixelValueTransformationSequence", "RescaleSlope"), 1.0)
    shift = _number(_of_frame(dataset, "PixelValueTransformationSequence", "RescaleIntercept"), 0.0)
    slope = slope or 1.0
    ends = sorted((low * slope + shift, high * slope + shift))
    return _Step(lambda values: values * slope + shift, *ends)


def _window(dataset: Any) -> _Step | None:
    if table := _sequence(dataset, "VOILUTSequence"):
        return _lookup(table, dataset)
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


def _lookup(item: Any, dataset: Any) -> _Step:
    number, first, bits = (int(each) for each in item.LUTDescriptor)
    number = number or 2**16
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, ">u2" if dataset.original_encoding[1] is False else "<u2")
    table = np.asarray(data, np.float64).reshape(-1)[:number]
    if not len(table) or not 1 <= bits <= 16:
        raise ValueError("an empty table")

    def apply(values: _Floats) -> _Floats:
        found: _Floats = table[np.clip(values - first, 0, len(table) - 1).astype(np.int64)]
        return found

    return _Step(apply, 0.0, float(2**bits - 1))


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
