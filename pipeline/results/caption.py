"""What stands below an overlay: score, name and the colours of the map."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.terminal import clean

from .maps import coloured

MIN_WIDTH = 160  # pixels: a score and a scale are legible from here on
TEXT = 13  # pixels high
MARGIN = 6
HEIGHT = 2 * TEXT + 3 * MARGIN
SCALE = (48, 10)  # width, height
PAPER, INK = (24, 26, 30), (235, 235, 235)
GREY = (128, 128, 128)  # what the scale's colours lie over, as they do over an image


def captioned(image: Image.Image, name: str, score: float | None, opacity: float) -> Image.Image:
    """An image above a strip with its name, its score and a scale of its map's colours.

    Args:
        image: RGB; its pixels stay as they are, at the top left.
        name: of the file; shortened in its middle to fit.
        score: in [0, 1]; None leaves it out.
        opacity: of the colour where the map is 1, in [0, 1].

    Returns:
        RGB, ``HEIGHT`` pixels higher, at least ``MIN_WIDTH`` wide.
    """
    width, top = max(image.width, MIN_WIDTH), image.height + MARGIN
    page = Image.new("RGB", (width, image.height + HEIGHT), PAPER)
    page.paste(image)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, top), _fitting(clean(name, 1_000), width - 2 * MARGIN), INK, _font())
    top += TEXT + MARGIN
    if score is not None:
        draw.text((MARGIN, top), f"score {score:.3f}", INK, _font())
    _draw_scale(page, draw, top, opacity)
    return page


def _draw_scale(page: Image.Image, draw: ImageDraw.ImageDraw, top: int, opacity: float) -> None:
    """0, the colours of a map from 0 to 1, and 1, at the right."""
    ramp = np.tile(np.linspace(0, 1, SCALE[0], dtype=np.float32), (SCALE[1], 1))
    colours = coloured(Image.new("RGB", SCALE, GREY), ramp, opacity)
    one = page.width - MARGIN - round(_font().getlength("1"))
    left = one - MARGIN // 2 - SCALE[0]
    zero = left - MARGIN // 2 - round(_font().getlength("0"))
    page.paste(colours, (left, top + (TEXT - SCALE[1]) // 2 + 1))
    draw.text((zero, top), "0", INK, _font())
    draw.text((one, top), "1", INK, _font())


def _fitting(name: str, width: int) -> str:
    """A name with as much of its beginning and its end as has room."""
    shown, kept = name, len(name)
    while kept and _font().getlength(shown) > width:
        kept -= 1
        shown = f"{name[: kept - kept // 2]}…{name[len(name) - kept // 2 :]}"
    return shown


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own, of Latin letters; others show as boxes."""
    return ImageFont.load_default(TEXT)
