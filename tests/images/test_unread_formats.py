"""Intact files in formats that are not read are named, and not called cut short."""

from __future__ import annotations

import struct

import pytest

from pipeline.images import ImageError, decode
from pipeline.schema import ErrorCode
from tests.image_files import encode, hide_extras, noise

SIDE = 4
UNSIGNED, SIGNED, FLOAT, COMPLEX = 1, 2, 3, 6  # TIFF's sample formats


def tiff(
    bits: int,
    samples: int,
    kind: int = UNSIGNED,
    compression: int = 1,
    order: str = "<",
    big: bool = False,
) -> bytes:
    """A TIFF of 4 x 4 pixels in one strip of zeros, behind its directory."""
    word = "Q" if big else "I"
    photometric = 2 if samples == 3 else 1
    strip = bytes(SIDE * SIDE * samples * max(bits, 8) // 8)
    tags = {256: SIDE, 257: SIDE, 258: bits, 259: compression, 262: photometric, 277: samples}
    tags |= {273: 0, 278: SIDE, 279: len(strip), 339: kind}
    head = struct.pack(f"{order}2sH", b"II" if order == "<" else b"MM", 43 if big else 42)
    head += struct.pack(f"{order}HHQ", 8, 0, 16) if big else struct.pack(f"{order}I", 8)
    count = struct.pack(f"{order}{'Q' if big else 'H'}", len(tags))
    entry = 20 if big else 12
    tags[273] = len(head) + len(count) + entry * len(tags) + struct.calcsize(f"{order}{word}")
    body = b"".join(
        struct.pack(f"{order}HH{word}{word}", tag, 16 if big else 4, 1, value)
        for tag, value in sorted(tags.items())
    )
    return head + count + body + struct.pack(f"{order}{word}", 0) + strip


def jpeg(marker: int, precision: int) -> bytes:
    """A JPEG of 8 x 8 pixels: its frame's header, and an end without pixels."""
    frame = struct.pack(">BHHB3B", precision, 8, 8, 1, 1, 0x11, 0)
    frame = b"\xff" + bytes([marker]) + struct.pack(">H", len(frame) + 2) + frame
    return b"\xff\xd8\xff\xe0\x00\x04ab" + frame + bytes(20) + b"\xff\xd9"


def bmp(bits: int, packing: int, masks: tuple[int, ...] = ()) -> bytes:
    """A BMP of 4 x 4 pixels, all zeros."""
    pixels, fields = (
        bytes((SIDE * bits + 31) // 32 * 4 * SIDE),
        struct.pack(f"<{len(masks)}I", *masks),
    )
    head = struct.pack("<IiiHHII16x", 40, SIDE, SIDE, 1, bits, packing, len(pixels)) + fields
    start = 14 + len(head)
    return struct.pack("<2sI4xI", b"BM", start + len(pixels), start) + head + pixels


INTACT = {
    "RGB float": (
        tiff(32, 3, FLOAT),
        "3 samples a pixel of 32 bits (floating point), uncompressed",
    ),
    "half float": (tiff(16, 1, FLOAT), "1 sample a pixel of 16 bits (floating point)"),
    "double": (tiff(64, 1, FLOAT), "64 bits (floating point)"),
    "complex": (tiff(64, 1, COMPLEX), "complex floating point"),
    "10 bits packed": (tiff(10, 1), "10 bits (unsigned integers)"),
    "14 bits packed": (tiff(14, 1), "14 bits"),
    "16 bits grey and alpha": (tiff(16, 2), "2 samples a pixel of 16 bits"),
    "multispectral": (tiff(16, 8), "8 samples a pixel of 16 bits"),
    "signed colours": (tiff(16, 3, SIGNED), "16 bits (signed integers)"),
    "big-endian": (tiff(32, 3, FLOAT, order=">"), "floating point"),
    "BigTIFF": (tiff(32, 3, FLOAT, big=True), "floating point"),
    "JPEG 2000 in TIFF": (tiff(8, 1, compression=34712), "JPEG 2000"),
    "JPEG XL in TIFF": (tiff(8, 3, compression=50002), "JPEG XL"),
    "JPEG XR in TIFF": (tiff(8, 1, compression=34934), "JPEG XR"),
    "LERC in TIFF": (tiff(8, 1, compression=34887), "LERC"),
    "an unknown compression": (tiff(8, 1, compression=60001), "compression 60001"),
    "12-bit JPEG": (jpeg(0xC1, 12), "lossy JPEG of 12 bits"),
    "lossless JPEG": (jpeg(0xC3, 16), "lossless JPEG of 16 bits"),
    "JPEG-LS": (jpeg(0xF7, 8), "JPEG-LS image of 8 bits"),
    "DICOM": (bytes(128) + b"DICM" + bytes(50), "DICOM"),
    "DICOM with a TIFF's preamble": (b"II*\0" + bytes(124) + b"DICM" + bytes(50), "DICOM"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50), "HEIC"),
    "JPEG XL": (b"\xff\x0a" + bytes(50), "JPEG XL"),
    "JPEG XL in a container": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "JPEG XL"),
    "NumPy": (b"\x93NUMPY\x01\0" + bytes(50), "NumPy"),
    "PAM": (b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nENDHDR\n" + bytes(6), "PAM"),
    "BMP with red first": (bmp(32, 3, (0xFF, 0xFF00, 0xFF0000)), "32 bits a pixel (bit fields"),
    "BMP of 12 bits": (bmp(16, 3, (0xF00, 0xF0, 0xF)), "16 bits a pixel (bit fields"),
    "BMP with a JPEG inside": (bmp(24, 4), "24 bits a pixel (compression 4)"),
    "BMP of two bits": (bmp(2, 0), "a BMP of 2 bits a pixel"),
    "PFM": (b"PF\n8 8\n-1.0\n" + bytes(8 * 8 * 12), "PFM"),
}


@pytest.mark.parametrize(("data", "words"), INTACT.values(), ids=INTACT)
def test_intact_files_of_other_formats_are_named_with_what_to_do(
    data: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_extras(monkeypatch, "formats", "dicom")
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.code is ErrorCode.UNSUPPORTED_MODE
    assert words in str(caught.value)
    assert "before upload" in str(caught.value)


CUT = {
    "within the directory": tiff(32, 3, FLOAT)[:60],
    "within the pixels": tiff(32, 3, FLOAT)[:-1],
    "BigTIFF": tiff(32, 3, FLOAT, big=True)[:60],
    "BMP": bmp(32, 3, (0xFF, 0xFF00, 0xFF0000))[:-1],
    "BMP's header": bmp(32, 3, (0xFF, 0xFF00, 0xFF0000))[:30],
    "BMP that is read": bmp(32, 3, (0xFF0000, 0xFF00, 0xFF))[:-1],
    "12-bit JPEG": jpeg(0xC1, 12)[:-2],
    "JPEG before its frame": jpeg(0xC3, 16)[:10],
}


@pytest.mark.parametrize("data", CUT.values(), ids=CUT)
def test_files_of_other_formats_that_are_cut_are_truncated(data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.code is ErrorCode.TRUNCATED


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_damage_in_a_format_that_is_read_is_damage(compression: str) -> None:
    data = encode(noise(), "TIFF", compression=compression)
    with pytest.raises(ImageError) as caught:
        decode(data[: len(data) // 2])
    assert caught.value.code is ErrorCode.TRUNCATED
