"""Pictures of the page: small images and their anomaly maps, read from where they lie."""

from __future__ import annotations

import base64
import io
import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, TypedDict

import numpy as np
from PIL import Image

from pipeline.gray_range import GrayRange
from pipeline.images import MAX_MEGAPIXELS, ImageError, decode
from pipeline.inputs.shards import read_named, read_version
from pipeline.results import open_results
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError

THREADS = 8
# Pixels of the longer side. The larger size where there are bytes for it: a photograph of the
# larger one takes about 15 KB as WebP, one of the smaller one about 8 KB.
SIDE, SMALL_SIDE, BYTES_FOR_SIDE = 384, 256, 24_000
MAP_SIDE = 148  # four samples a patch at 518 px; between them the map is nearly linear
QUALITIES = (80, 65, 50, 35, 20)  # the first that fits
MAP_QUALITY = 90
# So many pixels decode side by side; larger images one after the other. At 3 bytes a pixel that
# is at most 200 MB, and one large image.
SIDE_BY_SIDE_PIXELS = 8_000_000


class Picture(TypedDict):
    """One card's pictures, WebP in base64."""

    image: str | None
    """The image, at most ``SIDE`` pixels wide or high."""
    map: str | None
    """Its anomaly map in grey: 0 is probability 0, 255 is 1. As wide and high in proportion."""
    reference: str | None
    """The reference image most similar to it, at most ``SMALL_SIDE`` wide or high; None if it has
    none, or that is gone."""
    problem: str
    """Why the image or the map is missing, in words; a text of others."""


def take_pictures(
    output: str, rows: Sequence[dict[str, Any]], *, max_bytes: int, threads: int = THREADS
) -> list[Picture]:
    """The pictures of rows of the score table. An image that is gone is no error.

    A reference image that is the nearest one of many rows is read once.

    Maps of one shard are read one after the other, shards and images side by side. Held are a few
    images, and the finished pictures.

    Args:
        output: absolute URI of the output.
        rows: with the columns ``collector.SHOWN``.
        max_bytes: of all pictures together, before base64 adds a third: each gets the same share,
            and loses quality, then size, until it fits.
        threads: how many images and shards at a time.
    """
    share = max_bytes // max(len(rows), 1)
    maps: list[tuple[bytes | None, str]] = [(None, "")] * len(rows)
    by_shard: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        by_shard[row["map_file"] or ""].append(i)
    large = threading.Lock()
    uris = {row["nearest_reference"]: row["model"] for row in rows if row["nearest_reference"]}
    with ThreadPoolExecutor(threads) as pool:
        found_references = pool.map(
            lambda each: _reference(output, each[0], share // 3, large, GrayRange.of(each[1])),
            uris.items(),
        )
        references = dict(zip(uris, found_references, strict=True))
        shards = [sorted(each, key=lambda i: rows[i]["map_row"] or 0) for each in by_shard.values()]
        for indices, found in zip(
            shards,
            pool.map(lambda each: _maps(output, [rows[i] for i in each]), shards),
            strict=True,
        ):
            for i, picture in zip(indices, found, strict=True):
                maps[i] = picture
        beside = [references.get(row["nearest_reference"]) for row in rows]
        left = [
            share - len(found or b"") - len(reference or b"")
            for (found, _), reference in zip(maps, beside, strict=True)
        ]
        images = pool.map(lambda row, max_bytes: _image(row, max_bytes, large), rows, left)
        return [
            Picture(
                image=_base64(image),
                map=_base64(found),
                reference=_base64(reference),
                problem=problem or reason,
            )
            for (image, problem), (found, reason), reference in zip(
                images, maps, beside, strict=True
            )
        ]


def _maps(output: str, rows: list[dict[str, Any]]) -> list[tuple[bytes | None, str]]:
    """Encoded maps of rows of one shard, or why there is none."""
    results = open_results(output)  # its cache of open shards is one thread's
    found: list[tuple[bytes | None, str]] = []
    for row in rows:
        if row["map_file"] is None:
            found.append((None, "scored without a map"))
            continue
        scale = MAP_SIDE / max(row["width"], row["height"])
        size = (max(1, round(row["height"] * scale)), max(1, round(row["width"] * scale)))
        try:
            grey = np.round(255 * results.map(row, size)).astype(np.uint8)
            found.append((_webp(Image.fromarray(grey), MAP_QUALITY), ""))
        except (OSError, ValueError, StorageError) as error:
            found.append((None, f"no map: {error}"))
    return found


def _image(row: dict[str, Any], max_bytes: int, large: threading.Lock) -> tuple[bytes | None, str]:
    """An encoded image, or why there is none."""
    side = SIDE if max_bytes >= BYTES_FOR_SIDE else SMALL_SIDE
    try:
        data = read_version(row["uri"], row["etag"])
        pixels, gray_range = row["width"] * row["height"], GrayRange.of(row["model"])
        with large if pixels > SIDE_BY_SIDE_PIXELS else nullcontext():
            image = _decoded(data, pixels, side, gray_range)
    except StorageError as error:
        if error.code == ErrorCode.CHANGED:
            return None, "the image was replaced after it was scored"
        return None, f"the image can't be read any more ({error.code}): {error}"
    except ImageError as error:
        return None, f"the image can't be decoded any more: {error}"
    return _fitting(image, max_bytes), ""


def _reference(
    output: str, uri: str, max_bytes: int, large: threading.Lock, gray_range: GrayRange | None
) -> bytes | None:
    """An encoded reference image, or None if it is gone."""
    try:
        data = read_named(uri, output)
        with large:  # the table does not tell how large it is
            image = _decoded(data, int(MAX_MEGAPIXELS * 1e6), SMALL_SIDE, gray_range)
    except (StorageError, ImageError):
        return None
    return _fitting(image, max_bytes)


def _decoded(data: bytes, pixels: int, side: int, gray_range: GrayRange | None) -> Image.Image:
    # It was decoded before, whatever the limit was then.
    limit = 1 + pixels / 1e6
    image = decode(data, max_megapixels=limit, at_least=2 * side, gray_range=gray_range, apart=True)
    image.thumbnail((side, side))
    return image


def _fitting(image: Image.Image, max_bytes: int) -> bytes:
    while True:
        for quality in QUALITIES:
            encoded = _webp(image, quality)
            if len(encoded) <= max_bytes or max(image.size) <= 32:
                return encoded
        image = image.resize((max(1, image.width // 2), max(1, image.height // 2)))


def _webp(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()
