"""Masks of every kind → booleans of the model's square."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.datasets import DatasetError, decode_mask
from tests import golden
from tests.datasets.replica import encoded

WIDTH, HEIGHT = 12, 8
DEFECT = np.zeros((HEIGHT, WIDTH), bool)
DEFECT[2:6, 3:9] = True


def grey(value: int, dtype: type = np.uint8) -> NDArray[np.generic]:
    """Zeros with one value on the defect."""
    return DEFECT.astype(dtype) * dtype(value)


def palette(colours: bytes) -> bytes:
    """A palette PNG, index 1 on the defect."""
    picture = Image.fromarray(DEFECT.astype(np.uint8), "P")
    picture.putpalette(colours)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def decoded(data: bytes, size: int = HEIGHT) -> NDArray[np.bool_]:
    return decode_mask(data, size, width=WIDTH, height=HEIGHT)


SQUARE = decoded(encoded(grey(255), "png"))

MASKS = {
    "mvtec": encoded(grey(255), "png"),
    "visa, one kind of defect": encoded(grey(1), "png"),
    "visa, the fourth kind": encoded(grey(4), "png"),
    "class 127": encoded(grey(127), "png"),
    "bmp": encoded(grey(255), "bmp"),
    "tiff": encoded(grey(255), "tif"),
    "one bit": encoded(DEFECT, "png"),
    "16 bits": encoded(grey(65535, np.uint16), "png"),
    "16 bits, class 2": encoded(grey(2, np.uint16), "png"),
    "32 bits": encoded(grey(3, np.int32), "tif"),
    "float": encoded(grey(1, np.float32), "tif"),
    "red": encoded(np.stack([grey(255), grey(0), grey(0)], axis=-1), "png"),
    "dark blue on a palette": palette(bytes([0, 0, 0, 0, 0, 60])),
    "white on a palette": palette(bytes([0, 0, 0, 255, 255, 255])),
    "alpha": encoded(np.stack([grey(255)] * 3 + [np.full_like(grey(0), 255)], axis=-1), "png"),
}


@pytest.mark.parametrize("name", MASKS)
def test_every_kind_of_mask_marks_the_same_pixels(name: str) -> None:
    result = decoded(MASKS[name])
    assert result.shape == (HEIGHT, HEIGHT)
    assert result.dtype == np.bool_
    np.testing.assert_array_equal(result, SQUARE)


def test_at_its_own_size_a_mask_stays_as_it_is() -> None:
    square = DEFECT[:, :HEIGHT]
    data = encoded(square.astype(np.uint8) * 255, "png")
    np.testing.assert_array_equal(decode_mask(data, HEIGHT, width=HEIGHT, height=HEIGHT), square)


def test_resizing_is_the_released_codes() -> None:
    png = (golden.FOLDER / "inputs" / "grass_stain_mask.png").read_bytes()
    original = Image.open(io.BytesIO(png)).convert("L")
    resized = original.resize((golden.IMAGE_SIZE,) * 2, Image.Resampling.BILINEAR)
    result = decode_mask(png, golden.IMAGE_SIZE, width=original.width, height=original.height)
    np.testing.assert_array_equal(result, np.asarray(resized) / 255 > 0.5)
    assert result.any()


@pytest.mark.parametrize("kind", ["L", "RGB"])
def test_what_jpeg_leaves_beside_an_edge_is_no_defect(kind: str) -> None:
    big = np.kron(DEFECT, np.ones((9, 9), np.uint8)) * np.uint8(255)
    buffer = io.BytesIO()
    Image.fromarray(big).convert(kind).save(buffer, "JPEG", quality=90)
    assert ((np.asarray(Image.open(buffer).convert("L")) > 0) != (big > 0)).any()
    height, width = big.shape
    result = decode_mask(buffer.getvalue(), width, width=width, height=height)
    expected = decode_mask(encoded(big, "png"), width, width=width, height=height)
    np.testing.assert_array_equal(result, expected)


def test_a_black_mask_is_empty() -> None:
    assert not decoded(encoded(grey(0), "png")).any()


def test_a_mask_of_another_size_names_both_sizes() -> None:
    data = encoded(np.zeros((5, 7), np.uint8), "png")
    with pytest.raises(DatasetError, match=rf"7 x 5 pixels, its image {WIDTH} x {HEIGHT}"):
        decoded(data)


@pytest.mark.parametrize("data", [b"", b"no image", MASKS["mvtec"][:60], MASKS["bmp"][:100]])
def test_damaged_masks_are_data_set_errors(data: bytes) -> None:
    with pytest.raises(DatasetError, match="can't be decoded"):
        decoded(data)
