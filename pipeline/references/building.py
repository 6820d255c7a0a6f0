"""A reference set from images: which of them count, their sums, and what they say of each other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .gaussian import Gaussian
from .left_out import left_out_distances
from .reference_set import Readings, ReferenceImage, ReferenceSet
from .robust import Screen, screen
from .scale import RARE
from .sums import Sums, sum_up

# Images whose tokens are held at once, 17 MB each at 518 px and width 1,024: as good as all of a
# bucket for telling what is normal (docs/references.md).
SAMPLE_SIZE = 64
NUM_READINGS = 32  # images that are judged by the others, each by a fit of its own
LEAST_UNLABELLED = 8  # images: half of fewer tell nothing of what is normal


@dataclass(frozen=True)
class Seen:
    """Images of one category as the model sees them; float32."""

    images: tuple[ReferenceImage, ...]
    tokens: Tensor
    """[M, T, N, C], of ``normalise``."""
    embeddings: Tensor
    """[M, E] class embeddings of the frozen pass, unit length."""
    grids: Tensor
    """[M, N] AdaCLIP's logits of the patches."""
    logits: Tensor
    """[M] AdaCLIP's logits of the images."""

    def only(self, chosen: Tensor) -> Seen:
        """Some of them, by index."""
        return Seen(
            tuple(self.images[int(i)] for i in chosen),
            self.tokens[chosen],
            self.embeddings[chosen],
            self.grids[chosen],
            self.logits[chosen],
        )


@dataclass(frozen=True)
class Rest:
    """What is kept of the images beyond the sample: they add up over workers in any order."""

    images: tuple[ReferenceImage, ...]
    sums: Sums | None
    embeddings: Tensor
    """[M, E], unit length."""
    num_looked_at: int

    def to(self, device: torch.device | str) -> Rest:
        """On another device."""
        sums = self.sums and self.sums.to(device)
        return replace(self, sums=sums, embeddings=self.embeddings.to(device))

    def __add__(self, other: Rest) -> Rest:
        """Both."""
        sums = [each.sums for each in (self, other) if each.sums is not None]
        return Rest(
            self.images + other.images,
            sums[0] + sums[1] if len(sums) == 2 else (sums[0] if sums else None),
            torch.cat([self.embeddings, other.embeddings]),
            self.num_looked_at + other.num_looked_at,
        )


def add_up(
    images: tuple[ReferenceImage, ...], tokens: Tensor, embeddings: Tensor, screened: Screen | None
) -> Rest:
    """What to keep of some images; with ``screened``, of those that pass it."""
    _check_finite(tokens)
    passed = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
    if screened is not None:
        passed = screened.passes(tokens)
    chosen = passed.nonzero().flatten()
    return Rest(
        tuple(images[int(i)] for i in chosen),
        sum_up(tokens, chosen) if len(chosen) else None,
        embeddings[chosen],
        len(tokens),
    )


def build(
    category: str, model: str, seen: Seen, *, unlabelled: bool, rest: Rest | None = None
) -> ReferenceSet:
    """A reference set of one category.

    Args:
        category: its name.
        model: fingerprint of AdaCLIP.
        seen: the sample, at most ``SAMPLE_SIZE`` images; the same whatever the order of images.
        unlabelled: leave out what looks damaged; else all images are known to be good.
        rest: of the images beyond the sample.

    Raises:
        ValueError: images that are no use; the message says why, and what to do.
    """
    _check_images(seen.tokens, unlabelled)
    kept = torch.ones(len(seen.images), dtype=torch.bool, device=seen.tokens.device)
    if unlabelled:
        kept = screen(seen.tokens).passes(seen.tokens)
    chosen = kept.nonzero().flatten()
    own = sum_up(seen.tokens, chosen)
    total = own if rest is None or rest.sums is None else own + rest.sums
    good = seen.only(chosen)
    read = good.only(torch.arange(min(NUM_READINGS, len(good.images))))
    readings = Readings(left_out_distances(read.tokens, total), read.grids, read.logits)
    found = ReferenceSet(
        category=category,
        model=model,
        unlabelled=unlabelled,
        images=good.images + (rest.images if rest else ()),
        sums=total.to("cpu"),
        readings=readings.rounded(),
        embeddings=torch.cat([good.embeddings, *([rest.embeddings] if rest else [])]).half().cpu(),
        num_looked_at=len(seen.images) + (rest.num_looked_at if rest else 0),
    )
    if not unlabelled:
        return found
    return replace(found, abnormal_share=_abnormal_share(found, seen, kept))


def merge(earlier: ReferenceSet, later: ReferenceSet) -> ReferenceSet:
    """One set from two of the same category and model, without common images.

    Distances keep what they were when they were read: those of the earlier set's images, judged
    by fewer others, are a little too far, so good images come out as better, never as worse.
    """
    looked_at = earlier.num_looked_at + later.num_looked_at
    shares = [each.abnormal_share * each.num_looked_at for each in (earlier, later)]
    return replace(
        later,
        unlabelled=earlier.unlabelled or later.unlabelled,
        images=earlier.images + later.images,
        sums=earlier.sums + later.sums,
        readings=(later.readings + earlier.readings).first(NUM_READINGS),
        embeddings=torch.cat([earlier.embeddings, later.embeddings]),
        num_looked_at=looked_at,
        abnormal_share=sum(shares) / looked_at,
    )


def _abnormal_share(found: ReferenceSet, seen: Seen, kept: Tensor) -> float:
    """Share of the sample that lies where one in a hundred good images does, beyond that one."""
    scale = found.scale()
    gaussian = Gaussian.fit(found.sums).to(seen.tokens.device)
    out = (~kept).nonzero().flatten()
    others = seen.only(out)
    judged = scale.judge(gaussian.distances(others.tokens), others.grids, others.logits)
    beyond = int((judged.reference_logit > 0).sum()) / len(seen.images)
    return max(0.0, beyond - RARE)


def _check_images(tokens: Tensor, unlabelled: bool) -> None:
    _check_finite(tokens)
    count = len(tokens)
    if unlabelled and count < LEAST_UNLABELLED:
        raise ValueError(
            f"{count} images are too few to find out without labels what is normal; "
            f"{LEAST_UNLABELLED} are needed, or known-good ones"
        )
    if count > 1 and bool((tokens[1:] == tokens[:1]).all()):
        raise ValueError(f"all {count} images are the same picture; give different ones")


def _check_finite(tokens: Tensor) -> None:
    if not tokens.isfinite().all():
        raise ValueError("the model's tokens are not finite numbers (NaN); try --precision fp32")
