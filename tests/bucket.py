"""Small buckets for tests: images that decode, and objects that don't."""

from __future__ import annotations

import io

import boto3
import numpy as np
from PIL import Image


def jpeg(seed: int, size: tuple[int, int] = (96, 64)) -> bytes:
    """A JPEG of smooth noise, different for every seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


BROKEN = {
    "broken/empty.jpg": (b"", "empty"),
    "broken/notes.txt": (b"not an image at all", "not_an_image"),
    "broken/truncated.jpg": (jpeg(99)[:400], "truncated"),
}


def put(bucket: str, objects: dict[str, bytes]) -> None:
    """Upload objects by key."""
    client = boto3.client("s3")
    for key, body in objects.items():
        client.put_object(Bucket=bucket, Key=key, Body=body)
