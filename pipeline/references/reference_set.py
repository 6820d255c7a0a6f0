"""What is kept of a category's references, and its file.

A safetensors file holds the sums as mean and covariance, packed: 6.3 MB at width 1,024. With them
come readings, from which the scale follows, and embeddings; its header tells the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .gaussian import Gaussian
from .scale import Scale
from .sums import Sums, pack, unpack

FORMAT = "adaclip-references-1"


class ReferenceImage(NamedTuple):
    """One image among the references."""

    uri: str
    etag: str


@dataclass(frozen=True)
class Readings:
    """What good images read, each judged by the others; the scale follows from it."""

    distances: Tensor
    """[M, N] of their patches."""
    grids: Tensor
    """[M, N] AdaCLIP's logits of the patches."""
    logits: Tensor
    """[M] AdaCLIP's logits of the images."""

    def __add__(self, other: Readings) -> Readings:
        """Both."""
        return Readings(
            torch.cat([self.distances, other.distances]),
            torch.cat([self.grids, other.grids]),
            torch.cat([self.logits, other.logits]),
        )

    def first(self, count: int) -> Readings:
        """At most so many."""
        return Readings(self.distances[:count], self.grids[:count], self.logits[:count])

    def rounded(self) -> Readings:
        """As the file holds them: half precision, so that a set is the same before and after."""
        return Readings(*(each.half().cpu() for each in (self.distances, self.grids, self.logits)))


@dataclass(frozen=True)
class ReferenceSet:
    """What one category's images are compared with."""

    category: str
    model: str
    """Fingerprint of AdaCLIP; its tokens are those of no other model."""
    unlabelled: bool
    """Whether what looked damaged was left out, or all images were known to be good."""
    images: tuple[ReferenceImage, ...]
    """The M images that count."""
    sums: Sums
    readings: Readings
    embeddings: Tensor
    """float16 [M, E] of the images, in their order, unit length."""
    num_looked_at: int
    """Images that were looked at, M among them."""
    abnormal_share: float = 0.0
    """Estimated share of damaged images among them; 0 of known-good ones."""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def scale(self) -> Scale:
        """How distances from this set are read."""
        readings = self.readings
        return Scale.measure(
            readings.distances.float(),
            readings.grids.float(),
            readings.logits.float(),
            Gaussian.fit(self.sums).foreign_distance,
        )

    def to_bytes(self) -> bytes:
        """The file; floats of the covariance become float32, which moves no distance by 1e-5."""
        mean, covariance = self.sums.moments()
        tensors = {
            "mean": mean,
            "covariance": pack(covariance).float(),
            "reading_distances": self.readings.distances,
            "reading_grids": self.readings.grids,
            "reading_logits": self.readings.logits,
            "embeddings": self.embeddings,
        }
        told = {
            "format": FORMAT,
            "category": self.category,
            "model": self.model,
            "unlabelled": self.unlabelled,
            "num_images": self.sums.num_images,
            "num_patches": self.sums.num_patches,
            "num_looked_at": self.num_looked_at,
            "abnormal_share": self.abnormal_share,
            "created": self.created,
            "images": self.images,
        }
        contiguous = {name: each.cpu().contiguous() for name, each in tensors.items()}
        return save(contiguous, metadata={"references": json.dumps(told)})

    @classmethod
    def from_bytes(cls, data: bytes) -> ReferenceSet:
        """What ``to_bytes`` made.

        Raises:
            ValueError: it is damaged, or something else.
        """
        try:
            told, tensors = _header(data), load(data)
            if told["format"] != FORMAT:
                raise ValueError(f"its format is {told['format']!r}, not {FORMAT!r}")
            mean, packed = tensors["mean"], tensors["covariance"]
            covariance = unpack(packed, mean.shape[1])
            counts = told["num_images"], told["num_patches"]
            names = ("distances", "grids", "logits")
            return cls(
                category=told["category"],
                model=told["model"],
                unlabelled=told["unlabelled"],
                images=tuple(ReferenceImage(*each) for each in told["images"]),
                sums=Sums.of_moments(*counts, mean, covariance),
                readings=Readings(*(tensors[f"reading_{name}"] for name in names)),
                embeddings=tensors["embeddings"],
                num_looked_at=told["num_looked_at"],
                abnormal_share=told["abnormal_share"],
                created=told["created"],
            )
        except (SafetensorError, ValueError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"no reference set, or a damaged one: {error}") from error


def _header(data: bytes) -> Mapping[str, Any]:
    """The metadata of a safetensors file: its header is JSON behind 8 bytes of length."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    found: dict[str, Any] = json.loads(header["__metadata__"]["references"])
    return found
