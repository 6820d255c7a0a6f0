"""Masks of every kind → booleans of the model's square."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.datasets import DatasetError, LostMaskError, decode_mask, read_masks
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


KINDS = np.where(DEFECT & (np.arange(WIDTH) < 6), 1, 0) + np.where(DEFECT, 1, 0)  # 1 beside 2


def coloured(*colours: tuple[int, ...]) -> NDArray[np.uint8]:
    """Background, one kind and the other."""
    return np.array(colours, np.uint8)[KINDS]


def paletted(colours: list[int]) -> bytes:
    picture = Image.fromarray(KINDS.astype(np.uint8), "P")
    picture.putpalette(colours)
    return saved(picture)


def saved(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


SEVERAL_KINDS = {
    "grey 85 beside 255": encoded(np.array([0, 85, 255], np.uint8)[KINDS], "png"),
    "16 bits, 3 beside 500": encoded(np.array([0, 3, 500], np.uint16)[KINDS], "png"),
    "class 1 beside 255": encoded(np.array([0, 1, 255], np.uint8)[KINDS], "png"),
    "float, 0.2 beside 1": encoded(np.array([0, 0.2, 1], np.float32)[KINDS], "tif"),
    "colours": encoded(coloured((0, 0, 0), (0, 0, 90), (255, 0, 0)), "png"),
    "a palette": paletted([0, 0, 0, 0, 90, 0, 255, 0, 0]),
    "a palette without black": paletted([68, 1, 84, 33, 145, 140, 253, 231, 37]),
}


@pytest.mark.parametrize("name", SEVERAL_KINDS)
def test_of_several_kinds_all_are_defect(name: str) -> None:
    np.testing.assert_array_equal(decoded(SEVERAL_KINDS[name]), SQUARE)


IN_ALPHA = {
    "constant colour": coloured((9, 9, 9, 0), (9, 9, 9, 255), (9, 9, 9, 255)),
    "black paint": coloured((0, 0, 0, 0), (0, 0, 0, 255), (0, 0, 0, 200)),
    "red on transparent black": coloured((0, 0, 0, 0), (255, 0, 0, 255), (255, 0, 0, 255)),
    "paint on transparent white": coloured((255, 255, 255, 0), (9, 0, 0, 255), (255, 0, 0, 255)),
    "grey": coloured((255, 0), (255, 255), (255, 255)),
}


@pytest.mark.parametrize("values", IN_ALPHA.values(), ids=IN_ALPHA)
def test_transparent_pixels_are_no_defect(values: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(decoded(encoded(values, "png")), SQUARE)


def test_a_transparent_palette_entry_is_no_defect() -> None:
    picture = Image.fromarray(DEFECT.astype(np.uint8), "P")
    picture.putpalette([255, 255, 255, 255, 0, 0])
    np.testing.assert_array_equal(decoded(saved(picture, transparency=0)), SQUARE)


def test_a_mask_is_turned_as_its_own_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90° clockwise
    lying = Image.fromarray(grey(255)).transpose(Image.Transpose.ROTATE_90)
    np.testing.assert_array_equal(decoded(saved(lying, exif=exif)), SQUARE)
    with pytest.raises(DatasetError, match="export the mask at the size"):
        decoded(saved(lying))


UNCLEAR = {
    "no black": encoded(coloured((255, 255, 255), (0, 90, 0), (255, 0, 0)), "png"),
    "two backgrounds": encoded(coloured((0, 0, 0, 0), (0, 0, 0, 255), (9, 0, 0, 255)), "png"),
    "not a number": encoded(np.array([0, np.nan, 1], np.float32)[KINDS], "tif"),
}


@pytest.mark.parametrize("data", UNCLEAR.values(), ids=UNCLEAR)
def test_masks_that_do_not_tell_what_is_background_are_refused(data: bytes) -> None:
    with pytest.raises(DatasetError, match="export it"):
        decoded(data)


def test_soft_float_masks_are_cut_at_half() -> None:
    soft = np.linspace(0, 1, WIDTH * HEIGHT, dtype=np.float32).reshape(HEIGHT, WIDTH)
    np.testing.assert_array_equal(
        decoded(encoded(soft, "tif")), decoded(encoded(soft > 0.5, "png"))
    )


def test_several_masks_of_an_image_are_united(tmp_path: Path) -> None:
    uris = []
    for i in (1, 2):
        (tmp_path / f"{i}.png").write_bytes(encoded((i == KINDS).astype(np.uint8), "png"))
        uris.append(f"file://{tmp_path}/{i}.png")
    size = {"width": WIDTH, "height": HEIGHT}
    np.testing.assert_array_equal(read_masks(uris, HEIGHT, **size), SQUARE)
    assert not read_masks([], HEIGHT, **size).any()
    (tmp_path / "2.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"2\.png: the mask can't be decoded"):
        read_masks(uris, HEIGHT, **size)


def scratched(width: int, height: int, thickness: int, spot: int = 0) -> NDArray[np.bool_]:
    """A vertical scratch over three quarters of the height, and a spot of another defect."""
    defect = np.zeros((height, width), bool)
    defect[height // 8 : -height // 8, width // 2 : width // 2 + thickness] = True
    defect[:spot, :spot] = True
    return defect


def square_of(defect: NDArray[np.bool_], size: int, tmp_path: Path) -> NDArray[np.bool_]:
    path = tmp_path / "mask.png"
    path.write_bytes(encoded(defect, "png"))
    height, width = defect.shape
    return read_masks([f"file://{path}"], size, width=width, height=height)


@pytest.mark.parametrize("spot", [0, 20])
def test_a_scratch_thinner_than_a_pixel_of_the_square_is_told(spot: int, tmp_path: Path) -> None:
    defect = scratched(4000, 3000, 3, spot)
    with pytest.raises(LostMaskError, match=r"% of the defect is thinner than a pixel of the 518"):
        square_of(defect, 518, tmp_path)


def test_a_speck_beside_a_defect_costs_no_mask(tmp_path: Path) -> None:
    defect = scratched(1000, 1000, 100)
    defect[10, 10] = True
    assert square_of(defect, 100, tmp_path).any()


@pytest.mark.parametrize("offset", range(10))
def test_a_defect_as_wide_as_a_pixel_of_the_square_stays(offset: int, tmp_path: Path) -> None:
    defect = np.roll(scratched(1000, 1000, 11), offset, axis=1)
    assert square_of(defect, 100, tmp_path).any()


def test_a_black_mask_of_an_abnormal_image_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(LostMaskError, match="black"):
        square_of(np.zeros((9, 9), bool), 9, tmp_path)


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
