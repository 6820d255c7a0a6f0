"""Images cut into tiles: the whole resized image's pixels, and a single tile is today's square."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipeline.images import decode, tiles, to_square
from pipeline.images.fast import fast_squares
from pipeline.images.tiles import Squares, squares
from pipeline.tiling import Tiling
from tests.image_files import encode

SIZE, SIDE = 48, 12
PATCH = SIZE // SIDE
Cut = Callable[..., Squares]
both = pytest.mark.parametrize("cut", [squares, fast_squares])


def picture(width: int, height: int, grain: int = 5) -> Image.Image:
    pixels = np.random.default_rng(0).integers(
        0, 256, (height // grain, width // grain, 3), np.uint8
    )
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@both
@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("tiling", [Tiling(4, 48), Tiling(3, 48), Tiling(4, 75)])
def test_tiles_are_parts_of_the_resized_image(cut: Cut, file_format: str, tiling: Tiling) -> None:
    data = encode(picture(150, 100), file_format)
    found = cut(data, SIZE, tiling=tiling, side=SIDE)
    layout = tiling.layout(150, 100, side=SIDE)
    pixels = list(found.pixels)
    assert (found.width, found.height) == (150, 100)
    assert len(pixels) == layout.num_tiles > 1
    size = (layout.width * PATCH, layout.height * PATCH)
    whole = np.asarray(decode(data).resize(size, Image.Resampling.BICUBIC)).astype(int)
    for tile, (top, left) in zip(pixels, layout.starts(), strict=True):
        assert tile.shape == (SIZE, SIZE, 3)
        y, x = top * PATCH, left * PATCH
        # Rows of tiles are resized on their own: positions round otherwise by 1e-16 of a pixel.
        assert np.abs(tile - whole[y : y + SIZE, x : x + SIZE]).max() <= 1


@pytest.mark.parametrize("size", [(48, 48), (50, 20), (7, 300)])
def test_a_single_tile_is_the_whole_image(size: tuple[int, int]) -> None:
    data = encode(picture(*size), "PNG")
    [seen_whole] = squares(data, SIZE).pixels
    [one_tile] = squares(data, SIZE, tiling=Tiling(4, 300), side=SIDE).pixels
    np.testing.assert_array_equal(one_tile, seen_whole)
    np.testing.assert_array_equal(one_tile, to_square(decode(data), SIZE).pixels)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_huge_jpeg_is_reduced_by_its_decoder(
    monkeypatch: pytest.MonkeyPatch, orientation: int
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encode(picture(400, 301, grain=20), "JPEG", exif=exif)
    width, height = decode(data).size
    asked: list[object] = []

    def spy(*arguments: object, **options: object) -> Image.Image:
        image = decode(*arguments, **options)  # type: ignore[arg-type]
        asked.append(image.size)
        return image

    monkeypatch.setattr(tiles, "decode", spy)
    options = {"tiling": Tiling(4, 110), "side": SIDE}
    plain = [*squares(data, SIZE, **options).pixels]  # type: ignore[arg-type]
    monkeypatch.setattr(tiles, "HUGE", 100_000)
    found = squares(data, SIZE, **options)  # type: ignore[arg-type]
    reduced = [*found.pixels]
    assert (found.width, found.height) == (width, height)
    assert asked == [(width, height), ((width + 1) // 2, (height + 1) // 2)]
    assert len(reduced) == len(plain)
    for one, other in zip(reduced, plain, strict=True):
        assert np.abs(one.astype(int) - other).mean() < 8  # of another place: 80
    small = encode(picture(400, 300), "JPEG")  # a single tile is never reduced
    [pixels] = squares(small, SIZE, tiling=Tiling(4, 500), side=SIDE).pixels
    np.testing.assert_array_equal(pixels, to_square(decode(small), SIZE).pixels)
