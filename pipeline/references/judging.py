"""Images beside the references of their category, on the model's device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .gaussian import Gaussian
from .reference_set import ReferenceSet
from .sums import Sums

# An image that is among fewer references is judged by the others alone, which takes a fit of its
# own. Among more, it moves its own score by what docs/references.md measures.
EXACT_BELOW = 32


@dataclass(frozen=True)
class Judgement:
    """Images beside their references; float32."""

    logit_grid: Tensor
    """[B, N] abnormal minus normal, of the map, together with AdaCLIP's."""
    score_logit: Tensor
    """[B] of the image, together with AdaCLIP's."""
    reference_logit: Tensor
    """[B] of the image by its distance alone."""
    nearest: tuple[str, ...]
    """B URIs of the references that look most like the images; "" where there is no other."""


class Judge:
    """One category's references, ready for use."""

    def __init__(self, references: ReferenceSet, device: torch.device) -> None:
        """Fit the Gaussian.

        Raises:
            ValueError: sums that are no use (``Gaussian.fit``).
        """
        self._references, self._device = references, device
        self._gaussian = Gaussian.fit(references.sums).to(device)
        self._scale = references.scale()
        self._embeddings = references.embeddings.to(device).float()
        self._position = {tuple(image): i for i, image in enumerate(references.images)}

    @property
    def nbytes(self) -> int:
        """Bytes of memory: the Gaussian, the embeddings, and the sums in float64."""
        sums = self._references.sums
        return self._gaussian.nbytes + self._embeddings.nbytes + sums.second.nbytes

    def judge(
        self,
        images: Sequence[tuple[str, str]],
        tokens: Tensor,
        embeddings: Tensor,
        grids: Tensor,
        logits: Tensor,
    ) -> Judgement:
        """Judge a batch of images of this category.

        Args:
            images: B URIs with their ETags, to know those that are references themselves.
            tokens: [B, T, N, C], of ``normalise``.
            embeddings: [B, E] class embeddings of the frozen pass, unit length.
            grids: [B, N] AdaCLIP's logits of the patches.
            logits: [B] AdaCLIP's logits of the images.
        """
        own = [self._position.get(image) for image in images]
        distances = self._gaussian.distances(tokens)
        if 1 < len(self._references.images) < EXACT_BELOW:
            for i, position in enumerate(own):
                if position is not None:
                    distances[i] = self._without(tokens[i : i + 1])
        judged = self._scale.judge(distances, grids.float(), logits.float())
        return Judgement(*judged, self._nearest(embeddings, own))

    def _without(self, tokens: Tensor) -> Tensor:
        others = self._references.sums - Sums.of(tokens.cpu())
        return Gaussian.fit(others).to(self._device).distances(tokens)[0]

    def _nearest(self, embeddings: Tensor, own: Sequence[int | None]) -> tuple[str, ...]:
        likeness = embeddings.float() @ self._embeddings.mT
        for i, position in enumerate(own):
            if position is not None:
                likeness[i, position] = -torch.inf
        best = likeness.max(dim=1)
        found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return tuple(self._references.images[i].uri if v > -2 else "" for i, v in found)
