"""Files of every kind of image, made by other libraries, and what becomes of each.

The table of docs/inputs.md is this list; tests decode each file and compare the pixels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from pipeline.gray_range import GrayRange
from pipeline.schema import ErrorCode

from .dicom_files import dicom
from .format_case import (
    ALPHA,
    BLACK_COLOURS,
    COLOURS,
    DAMAGED,
    GRAY,
    J2K,
    NEARLY_BLACK,
    PICTURE,
    REFUSED,
    RGB,
    RGB_16,
    TWELVE,
    U16,
    Case,
    Shown,
    encoded,
    pages,
    pillow,
    with_significant_bits,
)
from .tiff_cases import tiff_cases


def _plain() -> list[Case]:
    gray, colours = (PICTURE, PICTURE), (COLOURS, COLOURS)
    return [
        Case("PNG, 8-bit gray", partial(pillow, GRAY, "PNG"), *gray),
        Case("PNG, WebP, TIFF, BMP, PPM, 8-bit RGB", partial(pillow, RGB, "PNG"), *colours),
        Case("PNG, 16-bit gray that uses 12", partial(pillow, U16, "PNG"), NEARLY_BLACK, PICTURE),
        Case(
            "PNG, the same with sBIT 12 (which says that the samples were scaled up to 16)",
            lambda: with_significant_bits(pillow(U16, "PNG"), 12),
            NEARLY_BLACK,
            PICTURE,
        ),
        Case(
            "PNG, 16-bit RGB(A) that uses 12",
            partial(encoded, "png", np.dstack([RGB_16, ALPHA])),
            BLACK_COLOURS,
            COLOURS,
        ),
        Case(
            "PNG, 16-bit gray with alpha that uses 12",
            partial(encoded, "png", np.dstack([U16, ALPHA])),
            Shown("nearly black", TWELVE >> 8),
            PICTURE,
        ),
        Case(
            "PGM, PPM of 12 bits",
            lambda: b"P6\n40 24\n4095\n" + RGB_16.astype(">u2").tobytes(),
            *colours,
        ),
        Case(
            "AVIF, 8 to 12 bits (read as 8)",
            partial(encoded, "avif", RGB, level=100),
            Shown("the picture", RGB, 3),
            Shown("the picture", RGB, 3),
        ),
        Case(
            "JPEG 2000, 12-bit gray",
            partial(encoded, "jpeg2k", U16, bitspersample=12, **J2K),
            *gray,
        ),
        Case(
            "JPEG 2000, RGB of 9 to 16 bits",
            partial(encoded, "jpeg2k", RGB_16, bitspersample=12, **J2K),
            COLOURS,
            COLOURS,
            extras=["formats"],
        ),
        Case(
            "JPEG 2000, int16",
            partial(encoded, "jpeg2k", (TWELVE - 2048).astype(np.int16), **J2K),
            REFUSED,
            PICTURE,
            GrayRange(-2048, 2047),
        ),
    ]


def _others() -> list[Case]:
    needs: dict[str, Any] = {"extras": ["formats"]}
    return [
        Case(
            "TIFF of three pages",
            lambda: pages(*[(GRAY // i, {}) for i in (1, 2, 3)]),
            PICTURE,
            PICTURE,
            frames=3,
        ),
        *[
            Case(
                f"{name} of two frames",
                partial(pillow, RGB, kind, frames=2, **how),
                COLOURS,
                COLOURS,
                frames=2,
            )
            for name, kind, how in (("APNG", "PNG", {}), ("WebP", "WEBP", {"lossless": True}))
        ],
        Case(
            "GIF of two frames", partial(pillow, GRAY, "GIF", frames=2), PICTURE, PICTURE, frames=2
        ),
        Case(
            "JPEG, 12 bits",
            partial(encoded, "jpeg8", U16, level=100, bitspersample=12),
            Shown("the picture", GRAY, 1),
            Shown("the picture", GRAY, 1),
            **needs,
        ),
        Case(
            "JPEG, lossless, 2 to 16 bits",
            partial(encoded, "ljpeg", U16, bitspersample=12),
            PICTURE,
            PICTURE,
            **needs,
        ),
        Case("JPEG-LS, 2 to 16 bits", partial(encoded, "jpegls", RGB), COLOURS, COLOURS, **needs),
        Case(
            "JPEG XL, 8 bits",
            partial(encoded, "jpegxl", RGB, lossless=True),
            COLOURS,
            COLOURS,
            **needs,
        ),
        Case(
            "JPEG XL, 12 bits",
            partial(encoded, "jpegxl", U16, lossless=True, bitspersample=12),
            PICTURE,
            PICTURE,
            **needs,
        ),
        Case(
            "JPEG XL, floating point",
            partial(encoded, "jpegxl", (TWELVE / 4095).astype(np.float32), lossless=True),
            REFUSED,
            PICTURE,
            GrayRange(0, 1),
            **needs,
        ),
        Case(
            "JPEG XL of several frames",
            partial(encoded, "jpegxl", np.stack([RGB, RGB // 2]), lossless=True),
            COLOURS,
            COLOURS,
            frames=None,
            **needs,
        ),
        Case("HEIC", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50), REFUSED, REFUSED),
        Case(
            "NumPy, HDF5, FITS, OpenEXR, Photoshop",
            lambda: b"\x93NUMPY\x01\0" + bytes(50),
            REFUSED,
            REFUSED,
        ),
        Case("cut short or damaged", lambda: pillow(RGB, "PNG")[:60], DAMAGED, DAMAGED),
    ]


def _dicoms() -> list[Case]:
    needs: dict[str, Any] = {"extras": ["dicom"]}
    both: dict[str, Any] = {"extras": ["dicom", "formats"]}
    hounsfield: dict[str, Any] = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    window: dict[str, Any] = {"WindowCenter": 1024, "WindowWidth": 4096}
    signed = (TWELVE - 1024).astype(np.int16)
    return [
        Case(
            "DICOM, gray with a window or VOI LUT",
            partial(dicom, U16, 12, **hounsfield, **window),
            PICTURE,
            PICTURE,
            GrayRange(-1024, 3071),
            **needs,
        ),
        Case(
            "DICOM, unsigned gray without a window",
            partial(dicom, U16, 12),
            PICTURE,
            PICTURE,
            **needs,
        ),
        Case(
            "DICOM, signed gray without a window",
            partial(dicom, signed, 16),
            REFUSED,
            PICTURE,
            GrayRange(-1024, 3071),
            **needs,
        ),
        Case(
            "DICOM, MONOCHROME1",
            partial(dicom, 4095 - U16, 12, "MONOCHROME1"),
            PICTURE,
            PICTURE,
            GrayRange(0, 4095),
            **needs,
        ),
        Case("DICOM, RGB", partial(dicom, RGB, 8, "RGB"), COLOURS, COLOURS, **needs),
        Case("DICOM, palette", partial(dicom, GRAY, 8, "PALETTE COLOR"), PICTURE, PICTURE, **needs),
        Case("DICOM, RLE", partial(dicom, U16, 12, coding="rle"), PICTURE, PICTURE, **needs),
        Case(
            "DICOM, JPEG 2000 or HTJ2K inside",
            partial(dicom, U16, 12, coding="jpeg2k"),
            PICTURE,
            PICTURE,
            **needs,
        ),
        Case(
            "DICOM, lossless JPEG inside",
            partial(dicom, U16, 12, coding="ljpeg"),
            PICTURE,
            PICTURE,
            **both,
        ),
        Case(
            "DICOM, JPEG-LS inside",
            partial(dicom, U16, 12, coding="jpegls"),
            PICTURE,
            PICTURE,
            **both,
        ),
        Case(
            "DICOM of three frames",
            partial(dicom, U16, 12, frames=3),
            PICTURE,
            PICTURE,
            frames=3,
            **needs,
        ),
        Case(
            "DICOM without pixels, DICOMDIR",
            partial(dicom, None, 0),
            ErrorCode.NOT_AN_IMAGE,
            ErrorCode.NOT_AN_IMAGE,
            **needs,
        ),
    ]


CASES = [*_plain(), *tiff_cases(), *_others(), *_dicoms()]


def table() -> list[tuple[str, str, str, str, str]]:
    """File, what becomes of it without and with a range, extras, frames."""
    return [
        (
            each.words,
            _outcome(each.plain),
            _outcome(each.ranged),
            _extras(each),
            "not counted" if each.frames is None else str(each.frames),
        )
        for each in CASES
    ]


def _outcome(outcome: Shown | ErrorCode) -> str:
    return f"`{outcome}`" if isinstance(outcome, ErrorCode) else outcome.words


def _extras(case: Case) -> str:
    if case.ranged_extras:
        return f"`[{','.join(case.ranged_extras)}]` with a range"
    return f"`[{','.join(case.extras)}]`" if case.extras else ""
