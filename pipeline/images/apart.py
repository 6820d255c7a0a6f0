"""Decoding in a process of its own, for processes that a decoder must not end.

Readers are processes that may die: their rows are tried again, then given up by name. A driver, or
whoever opens results, is none. Pillow decodes in these, too; what only the decoders of the extras
read, which are younger, is decoded here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from pipeline.gray_range import GrayRange
from pipeline.schema import ErrorCode

from .errors import ImageError

SECONDS = 120  # of a large JPEG XL image on a busy core: some

Decode = Callable[..., Image.Image]


def decode_apart(
    data: bytes, *, max_megapixels: float, gray_range: GrayRange | None
) -> Image.Image:
    """As ``decode``, by a child of this process.

    Raises:
        ImageError: as ``decode``; with the code ``killed_reader`` if the child ended without a
            word, or was not done after ``SECONDS``.
    """
    asked = {"max_megapixels": max_megapixels, "gray_range": gray_range}
    command = [sys.executable, "-P", "-c", "from pipeline.images import apart; apart.main()"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(asked).encode() + b"\n" + data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(_paths())},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ImageError(
            ErrorCode.KILLED_READER, f"its decoder was not done after {SECONDS} s"
        ) from None
    head, _, pixels = done.stdout.partition(b"\n")
    if done.returncode:
        raise ImageError(
            ErrorCode.KILLED_READER, f"its decoder ended its process (exit code {done.returncode})"
        )
    told: dict[str, Any] = json.loads(head)
    if "error" in told:
        size = {"width": told["width"], "height": told["height"]}
        raise ImageError(ErrorCode(told["error"]), told["message"], **size)
    image = Image.frombytes("RGB", tuple(told["size"]), pixels)
    image.info |= told["info"]
    return image


def serve(decode: Decode, source: BinaryIO, sink: BinaryIO) -> None:
    """Decode what the parent asks, and tell it, a line of JSON and then pixels."""
    asked = json.loads(source.readline())
    gray_range = None if asked["gray_range"] is None else GrayRange(*asked["gray_range"])
    pixels = b""
    try:
        image = decode(source.read(), max_megapixels=asked["max_megapixels"], gray_range=gray_range)
        told: dict[str, Any] = {"size": image.size, "info": _plain(image.info)}
        pixels = image.tobytes()
    except ImageError as error:
        told = {"error": error.code, "message": str(error)}
        told |= {"width": error.width, "height": error.height}
    sink.write(json.dumps(told).encode() + b"\n" + pixels)


def main() -> None:
    """The child."""
    from .decoding import decode  # which imports this module

    serve(decode, sys.stdin.buffer, sys.stdout.buffer)


def _paths() -> list[str]:
    """Where the child finds this package, and what its parent was told to look at."""
    own = str(Path(__file__).parents[2])
    return [own, *filter(None, [os.environ.get("PYTHONPATH")])]


def _plain(info: dict[Any, Any]) -> dict[str, Any]:
    """What ``decode`` itself notes."""
    return {name: value for name, value in info.items() if isinstance(value, int | float | None)}
