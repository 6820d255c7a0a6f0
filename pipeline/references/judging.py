"""Images beside the references of their category, on the model's device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .gaussian import Gaussian
from .reference_set import ReferenceSet
from .scale import Judged
from .sums import Sums

# An image that is among fewer references is judged by the others alone, which takes a fit of its
# own. Among more, it moves its own score by what docs/references.md measures.
EXACT_BELOW = 32
NONE_NEAR = -1


@dataclass(frozen=True)
class Judgement:
    """Images beside their references; float32."""

    logit_grid: Tensor
    """[B, N] abnormal minus normal, of the map, together with AdaCLIP's."""
    score_logit: Tensor
    """[B] of the image, together with AdaCLIP's."""
    reference_logit: Tensor
    """[B] of the image by its distance alone."""
    nearest: Tensor
    """[B] int64, the references that look most like the images; ``NONE_NEAR`` where there is no
    other than the image itself."""


class Judge:
    """One category's references, ready for use."""

    def __init__(self, references: ReferenceSet, device: torch.device) -> None:
        """Fit the Gaussians.

        Raises:
            ValueError: sums that are no use (``Gaussian.fit``).
        """
        self._references, self._device = references, device
        fitted = [Gaussian.fit(each.sums) for each in references.looks]
        self._scales = [a.scale(b) for a, b in zip(references.looks, fitted, strict=True)]
        self._gaussians = [each.to(device) for each in fitted]
        self._embeddings = references.embeddings.to(device).float()
        self._position = {tuple(image): i for i, image in enumerate(references.images)}

    @property
    def nbytes(self) -> int:
        """Bytes of memory: the Gaussians, the embeddings, and the sums in float64."""
        sums = sum(each.sums.second.nbytes for each in self._references.looks)
        return sum(each.nbytes for each in self._gaussians) + self._embeddings.nbytes + sums

    def judge(
        self,
        images: Sequence[tuple[str, str]],
        tokens: Tensor,
        embeddings: Tensor,
        grids: Tensor,
        logits: Tensor,
    ) -> Judgement:
        """Judge a batch of images of this category, each by the look that it is nearest to.

        Args:
            images: B URIs with their ETags, to know those that are references themselves.
            tokens: [B, T, N, C], of ``normalise``.
            embeddings: [B, E] class embeddings of the frozen pass, unit length.
            grids: [B, N] AdaCLIP's logits of the patches.
            logits: [B] AdaCLIP's logits of the images.
        """
        own = [self._position.get(image) for image in images]
        by_look = [
            self._scales[look].judge(self._distances(look, tokens, own), grids, logits)
            for look in range(len(self._gaussians))
        ]
        look = torch.stack([each.reference_logit for each in by_look]).argmin(dim=0)
        judged = Judged(*(_chosen(torch.stack(each), look) for each in zip(*by_look, strict=True)))
        return Judgement(*judged, self._nearest(embeddings, own))

    def _distances(self, look: int, tokens: Tensor, own: Sequence[int | None]) -> Tensor:
        """Of a batch from a look [B, N]; of its own images, from the others of the look."""
        distances = self._gaussians[look].distances(tokens)
        sums = self._references.looks[look].sums
        for i, position in enumerate(own):
            is_own = position is not None and self._references.look_of[position] == look
            if is_own and 1 < sums.num_images < EXACT_BELOW:
                others = Gaussian.fit(sums - Sums.of(tokens[i : i + 1].cpu()))
                distances[i] = others.to(self._device).distances(tokens[i : i + 1])[0]
        return distances

    def uri(self, position: int) -> str | None:
        """Of a reference, by its place in ``Judgement.nearest``."""
        return None if position == NONE_NEAR else self._references.images[position].uri

    def _nearest(self, embeddings: Tensor, own: Sequence[int | None]) -> Tensor:
        likeness = embeddings.float() @ self._embeddings.mT
        for i, position in enumerate(own):
            if position is not None:
                likeness[i, position] = -torch.inf
        best = likeness.max(dim=1)
        return best.indices.masked_fill(best.values.isneginf(), NONE_NEAR)


def _chosen(values: Tensor, look: Tensor) -> Tensor:
    """Values [looks, B, ...] of each image's look, [B, ...]."""
    return values[look, torch.arange(len(look), device=look.device)]
