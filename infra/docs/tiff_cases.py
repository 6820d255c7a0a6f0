"""TIFF files of the table of formats."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from pipeline.gray_range import GrayRange

from .format_case import (
    ALPHA,
    BLACK_COLOURS,
    COLOURS,
    GRAY,
    NEARLY_BLACK,
    PICTURE,
    REFUSED,
    RGB,
    RGB_16,
    TWELVE,
    TWELVE_RGB,
    U16,
    Case,
    Shown,
    of_bits,
    pages,
    tiff,
)


def tiff_cases() -> list[Case]:
    needs: dict[str, Any] = {"extras": ["formats"]}
    signed = GrayRange(-2048, 2047)
    planes: dict[str, Any] = {"photometric": "rgb", "planarconfig": "separate"}
    return [
        Case("TIFF, 16-bit gray that uses 12", partial(tiff, U16), NEARLY_BLACK, PICTURE),
        Case(
            "TIFF, the same with MaxSampleValue, SMaxSampleValue or ImageJ's range of a full scale",
            partial(tiff, U16, imagej=True, metadata={"min": 0.0, "max": 4095.0}),
            PICTURE,
            PICTURE,
        ),
        Case(
            "TIFF, 16-bit gray, WhiteIsZero",
            partial(tiff, (4095 - TWELVE).astype(np.uint16), photometric="miniswhite"),
            Shown("nearly white", 255 - (4095 - TWELVE + 128) // 257),
            PICTURE,
        ),
        Case("TIFF, 16-bit RGB that uses 12", partial(tiff, RGB_16), BLACK_COLOURS, COLOURS),
        Case(
            "TIFF, 16-bit RGB in separate planes",
            partial(tiff, np.moveaxis(RGB_16, -1, 0), **planes),
            BLACK_COLOURS,
            COLOURS,
        ),
        Case(
            "TIFF, 16-bit RGB in separate planes, in tiles",
            partial(
                tiff,
                np.moveaxis(of_bits(RGB, 16).astype(np.uint16), -1, 0),
                tile=(16, 16),
                **planes,
            ),
            COLOURS,
            COLOURS,
            GrayRange(0, 65535),
            **needs,
        ),
        Case(
            "TIFF, 12-bit gray, packed or as 12-bit JPEG",
            partial(tiff, U16, bitspersample=12),
            PICTURE,
            PICTURE,
        ),
        Case(
            "TIFF, 10- or 14-bit gray, packed",
            partial(tiff, of_bits(GRAY, 10).astype(np.uint16), bitspersample=10),
            PICTURE,
            PICTURE,
            GrayRange(0, 1023),
            **needs,
        ),
        Case(
            "TIFF, 10- to 14-bit RGB, packed",
            partial(tiff, RGB_16, bitspersample=12),
            COLOURS,
            COLOURS,
            **needs,
        ),
        Case(
            "TIFF, 16-bit gray with alpha",
            partial(
                tiff, np.dstack([U16, ALPHA]), extrasamples=["unassalpha"], planarconfig="contig"
            ),
            NEARLY_BLACK,
            PICTURE,
            **needs,
        ),
        Case(
            "TIFF, int16, int32, uint32 gray",
            partial(tiff, (TWELVE - 2048).astype(np.int16)),
            REFUSED,
            PICTURE,
            signed,
        ),
        Case(
            "TIFF, int8 gray",
            partial(tiff, (GRAY // 2).astype(np.int8)),
            REFUSED,
            Shown("the picture", (GRAY // 2) * 2),
            GrayRange(0, 127.5),
            ranged_extras=["formats"],
        ),
        Case(
            "TIFF, float32 gray",
            partial(tiff, (TWELVE / 4095).astype(np.float32)),
            REFUSED,
            PICTURE,
            GrayRange(0, 1),
        ),
        Case(
            "TIFF, float16 or float64 gray",
            partial(tiff, (GRAY / 255).astype(np.float16)),
            REFUSED,
            PICTURE,
            GrayRange(0, 1),
            **needs,
        ),
        Case(
            "TIFF, float or integer RGB of any width",
            partial(tiff, (TWELVE_RGB / 4095).astype(np.float32)),
            REFUSED,
            COLOURS,
            GrayRange(0, 1),
            **needs,
        ),
        *[
            Case(
                f"TIFF with {name} inside",
                partial(tiff, RGB, compression=codec),
                COLOURS,
                COLOURS,
                **needs,
            )
            for name, codec in (
                ("JPEG 2000", "jpeg2000"),
                ("LERC", "lerc"),
                ("JPEG XL", "jpegxl"),
                ("PNG", "png"),
            )
        ],
        Case(
            "TIFF, more than 4 samples a pixel",
            partial(tiff, np.dstack([GRAY] * 8), planarconfig="contig"),
            REFUSED,
            REFUSED,
            **needs,
        ),
        Case(
            "TIFF, raw camera file (DNG)",
            partial(tiff, GRAY, extratags=[(50706, "B", 4, b"\1\4\0\0", True)]),
            REFUSED,
            REFUSED,
        ),
        Case(
            "TIFF, thumbnail first",
            lambda: pages((GRAY[::4, ::4], {"subfiletype": 1}), (GRAY, {})),
            PICTURE,
            PICTURE,
        ),
        Case(
            "TIFF, thumbnail with the picture in a sub-page",
            lambda: pages((GRAY[::4, ::4], {"subfiletype": 1, "subifds": 1}), (GRAY, {})),
            PICTURE,
            PICTURE,
            **needs,
        ),
    ]
