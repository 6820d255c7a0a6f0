"""Decoders: speed, and how far their pixels and the model's answers are from the exact ones.

nvJPEG needs a GPU and is not here.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torchvision.io import ImageReadMode, decode_image

from pipeline.anomaly_map import render
from pipeline.config import BenchmarkConfig
from pipeline.images import MEAN, STD, decode, to_square
from pipeline.images.fast import decode_square
from pipeline.models import AdaCLIP, load_adaclip
from pipeline.models.packaged import IMAGE_SIZE, SMALL_MODEL
from pipeline.synthetic import TEST_CATEGORIES, generate

from .photographs import encoded, photograph

Pixels = NDArray[np.uint8]
Decode = Callable[[bytes, int], Pixels]

EXACT = "pillow"
SHAPES = {1: (1_152, 864), 3: (2_048, 1_536), 12: (4_000, 3_000)}  # megapixels: width, height
LABELLED = 24  # images on which the small model is asked
LABELLED_PHOTO = 1_024


def decoders() -> dict[str, Decode]:
    """Bytes and a side → [side, side, 3] RGB; those whose packages are installed."""
    found: dict[str, Decode] = {
        EXACT: lambda data, size: to_square(decode(data), size).pixels,
        "pillow, draft mode": _draft,
        "pillow, reducing_gap=2": _gap,
        "pillow + torch resize": lambda data, size: _torch_resize(_rgb(data), size),
        "--decoder fast": lambda data, size: decode_square(data, size).pixels,
        "torchvision": lambda data, size: _pillow_resize(_torchvision(data), size),
        "torchvision + torch resize": lambda data, size: _torch_resize(_torchvision(data), size),
    }
    if find_spec("simplejpeg"):
        found["simplejpeg"] = lambda data, size: _pillow_resize(_simplejpeg(data), size)
        found["simplejpeg, scaled + torch resize"] = lambda data, size: _torch_resize(
            _simplejpeg(data, at_least=size), size
        )
    if find_spec("cv2"):
        found["opencv"] = lambda data, size: _pillow_resize(_opencv(data), size)
        found["opencv + INTER_AREA"] = _opencv_area
    return found


def measure_decoding(config: BenchmarkConfig) -> dict[str, Any]:
    """Time and deviation of every decoder, in this process and on one thread."""
    torch.set_num_threads(1)
    if find_spec("cv2"):
        import cv2

        cv2.setNumThreads(1)
    return {
        "speed": list(_speed(config.image_size, config.num_steps)),
        "scores": list(_score_deviation()),
    }


def _speed(size: int, repeat: int) -> Iterator[dict[str, Any]]:
    for file_format in ("JPEG", "PNG"):
        for megapixels, shape in SHAPES.items():
            data = encoded(photograph(0, *shape), file_format)
            exact = to_square(decode(data), size).pixels
            for name, function in decoders().items():
                if "simplejpeg" in name and file_format != "JPEG":
                    continue
                difference = np.abs(function(data, size).astype(int) - exact)
                yield {
                    "format": file_format,
                    "megapixels": megapixels,
                    "decoder": name,
                    "ms": round(_cpu_ms(function, data, size, repeat), 2),
                    "max_grey_levels": int(difference.max()),
                    "mean_grey_levels": round(float(difference.mean()), 4),
                }


def _cpu_ms(function: Decode, data: bytes, size: int, repeat: int) -> float:
    """Median CPU time of a call in milliseconds: other work on the machine doesn't count."""
    spent = []
    for _ in range(repeat):
        started = time.process_time()
        function(data, size)
        spent.append(time.process_time() - started)
    return 1e3 * statistics.median(spent)


def _score_deviation() -> Iterator[dict[str, Any]]:
    """What the small model makes of the same photographs, decoded otherwise."""
    model = load_adaclip(**SMALL_MODEL)
    categories = [TEST_CATEGORIES[i % len(TEST_CATEGORIES)] for i in range(LABELLED)]
    for file_format in ("JPEG", "PNG"):
        files = [encoded(_labelled(c, i), file_format) for i, c in enumerate(categories)]
        exact: tuple[NDArray[Any], NDArray[Any]] | None = None
        for name, function in decoders().items():
            if "simplejpeg" in name and file_format != "JPEG":
                continue
            scores, maps = _answers(model, [function(f, IMAGE_SIZE) for f in files], categories)
            exact = exact or (scores, maps)
            yield {
                "format": file_format,
                "decoder": name,
                "max_score": round(float(np.abs(scores - exact[0]).max()), 5),
                "mean_score": round(float(np.abs(scores - exact[0]).mean()), 6),
                "max_map": round(float(np.abs(maps - exact[1]).max()), 4),
                "mean_map": round(float(np.abs(maps - exact[1]).mean()), 6),
            }


def _labelled(category: str, number: int) -> Pixels:
    defect = "good" if number % 8 < 4 else "hole"
    return generate(category, defect, number, LABELLED_PHOTO).image


def _answers(
    model: AdaCLIP, pixels: Sequence[Pixels], categories: Sequence[str]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scores [B] and maps [B, size, size]."""
    images = (np.stack(pixels).astype(np.float32) / 255 - np.array(MEAN)) / np.array(STD)
    out = model.predict(images.transpose(0, 3, 1, 2).astype(np.float32), categories)
    maps = [render(grid.numpy(), IMAGE_SIZE) for grid in out.logit_grid]
    return out.score.numpy(), np.stack(maps)


def _rgb(data: bytes) -> Pixels:
    return np.array(decode(data))


def _draft(data: bytes, size: int) -> Pixels:
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (size, size))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def _gap(data: bytes, size: int) -> Pixels:
    resized = decode(data).resize((size, size), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(resized)


def _pillow_resize(pixels: Pixels, size: int) -> Pixels:
    return to_square(Image.fromarray(pixels), size).pixels


def _torch_resize(pixels: Pixels, size: int) -> Pixels:
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    resized = F.interpolate(tensor, (size, size), mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def _torchvision(data: bytes) -> Pixels:
    encoded_bytes = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels: Pixels = decode_image(encoded_bytes, ImageReadMode.RGB).permute(1, 2, 0).numpy()
    return pixels


def _simplejpeg(data: bytes, at_least: int = 0) -> Pixels:
    import simplejpeg

    pixels: Pixels = simplejpeg.decode_jpeg(data, min_height=at_least, min_width=at_least)
    return pixels


def _opencv(data: bytes) -> Pixels:
    import cv2

    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _opencv_area(data: bytes, size: int) -> Pixels:
    import cv2

    resized = cv2.resize(_opencv(data), (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8)
