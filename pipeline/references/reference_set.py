"""What is kept of a category's references, and its file.

A safetensors file holds the sums as mean and covariance, packed: 6.3 MB a look at width 1,024. With
them come readings, from which the scale follows, and embeddings; its header tells the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .look import Look
from .robust import Screen

FORMAT = "adaclip-references-1"


class ReferenceImage(NamedTuple):
    """One image among the references."""

    uri: str
    etag: str


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
    look_of: tuple[int, ...]
    """Of each image."""
    looks: tuple[Look, ...]
    embeddings: Tensor
    """float16 [M, E] of the images, in their order, unit length."""
    num_looked_at: int
    """Images that were looked at, M among them."""
    abnormal_share: float = 0.0
    """Estimated share of damaged images among them; 0 of known-good ones."""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def screens(self) -> list[Screen]:
        """What counts as normal, by look, for images that are added."""
        return [look.screen() for look in self.looks]

    def to_bytes(self) -> bytes:
        """The file."""
        tensors = {"embeddings": self.embeddings}
        for number, look in enumerate(self.looks):
            tensors |= {f"look{number}.{name}": each for name, each in look.tensors().items()}
        told = {
            "format": FORMAT,
            "category": self.category,
            "model": self.model,
            "unlabelled": self.unlabelled,
            "num_looks": len(self.looks),
            "num_looked_at": self.num_looked_at,
            "abnormal_share": self.abnormal_share,
            "created": self.created,
            "images": self.images,
            "look_of": self.look_of,
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
            return cls(
                category=told["category"],
                model=told["model"],
                unlabelled=told["unlabelled"],
                images=tuple(ReferenceImage(*each) for each in told["images"]),
                look_of=tuple(told["look_of"]),
                looks=tuple(_look(tensors, i) for i in range(told["num_looks"])),
                embeddings=tensors["embeddings"],
                num_looked_at=told["num_looked_at"],
                abnormal_share=told["abnormal_share"],
                created=told["created"],
            )
        # RuntimeError: tensors that do not fit together.
        except (SafetensorError, ValueError, LookupError, TypeError, RuntimeError) as error:
            raise ValueError(f"no reference set, or a damaged one: {error}") from error


def _look(tensors: Mapping[str, Tensor], number: int) -> Look:
    prefix = f"look{number}."
    return Look.of_tensors(
        {k.removeprefix(prefix): each for k, each in tensors.items() if k.startswith(prefix)}
    )


def _header(data: bytes) -> Mapping[str, Any]:
    """The metadata of a safetensors file: its header is JSON behind 8 bytes of length."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    found: dict[str, Any] = json.loads(header["__metadata__"]["references"])
    return found
