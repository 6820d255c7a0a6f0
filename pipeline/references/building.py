"""A reference set from images: which of them count, their sums, and what they say of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .gaussian import Gaussian
from .left_out import left_out_distances
from .look import Look, Readings
from .reference_set import ReferenceImage, ReferenceSet
from .robust import BLANK, Screen, assign, find_looks, is_blank
from .scale import RARE
from .sums import Sums, each_of, sum_up

# Images whose tokens are held at once, 17 MB each at 518 px and width 1,024: as good as all of a
# bucket for telling what is normal (docs/references.md).
SAMPLE_SIZE = 64
NUM_READINGS = 32  # images of a look that are judged by the others, each by a fit of its own
LEAST_UNLABELLED = 8  # images: half of fewer tell nothing of what is normal
LEAST_FOR_LOOKS = 16  # known-good images: fewer are one look


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


@dataclass(frozen=True)
class Rest:
    """What is kept of the images beyond the sample: it adds up over workers in any order."""

    images: tuple[ReferenceImage, ...]
    looks: tuple[int, ...]
    """Of each image."""
    sums: tuple[Sums, ...]
    """Of each look."""
    embeddings: Tensor
    """[M, E], unit length."""
    num_looked_at: int

    def to(self, device: torch.device | str) -> Rest:
        """On another device."""
        sums = tuple(each.to(device) for each in self.sums)
        return replace(self, sums=sums, embeddings=self.embeddings.to(device))

    def __add__(self, other: Rest) -> Rest:
        """Both."""
        return Rest(
            self.images + other.images,
            self.looks + other.looks,
            tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)),
            torch.cat([self.embeddings, other.embeddings]),
            self.num_looked_at + other.num_looked_at,
        )


def screens_of(
    tokens: Tensor, *, unlabelled: bool, each: Sequence[Sums] | None = None
) -> list[Screen]:
    """The looks of a sample; none = one look, and all of it is normal.

    Args:
        tokens: [M, T, N, C], of ``normalise``.
        unlabelled: not all images are known to be good.
        each: M sums of the images, where they are known.

    Raises:
        ValueError: images that are no use; the message says why, and what to do.
    """
    _check(tokens, unlabelled)
    if unlabelled or len(tokens) >= LEAST_FOR_LOOKS:
        return find_looks(tokens, each)
    return []


def add_up(
    images: Sequence[ReferenceImage],
    tokens: Tensor,
    embeddings: Tensor,
    screens: Sequence[Screen],
    *,
    unlabelled: bool,
    each: Sequence[Sums] | None = None,
) -> Rest:
    """What to keep of some images: those that look normal, or all that are known to be good.

    Args:
        images: M of one category.
        tokens: [M, T, N, C], of ``normalise``.
        embeddings: [M, E], unit length.
        screens: of ``screens_of``.
        unlabelled: keep what looks normal only.
        each: M sums of the images, where they are known.

    Raises:
        ValueError: the tokens are not finite.
    """
    _check_finite(tokens)
    look, normal = assign(screens, tokens)
    keep = normal if unlabelled else torch.ones_like(normal)
    chosen, looks = keep.nonzero().flatten(), look[keep].tolist()
    by_look: list[list[int]] = [[] for _ in range(max(1, len(screens)))]
    for i, number in zip(chosen.tolist(), looks, strict=True):
        by_look[number].append(i)
    own = each or each_of(tokens)
    return Rest(
        tuple(images[int(i)] for i in chosen),
        tuple(looks),
        tuple(sum_up(own, members) for members in by_look),
        embeddings[chosen],
        len(tokens),
    )


def build(
    category: str,
    model: str,
    seen: Seen,
    *,
    unlabelled: bool,
    screens: Sequence[Screen] | None = None,
    rest: Rest | None = None,
) -> ReferenceSet:
    """A reference set of one category.

    Args:
        category: its name.
        model: fingerprint of AdaCLIP.
        seen: the sample, at most ``SAMPLE_SIZE`` images.
        unlabelled: leave out what looks damaged; else all images are known to be good.
        screens: looks of the set that these images are added to; by default the sample's own.
        rest: of the images beyond the sample.

    Raises:
        ValueError: images that are no use; the message says why, and what to do.
    """
    _check_finite(seen.tokens, seen.embeddings, seen.grids, seen.logits)
    _check(seen.tokens, unlabelled and screens is None)
    each = each_of(seen.tokens)
    if screens is None:
        screens = screens_of(seen.tokens, unlabelled=unlabelled, each=each)
    arguments = (seen.images, seen.tokens, seen.embeddings, screens)
    sample = add_up(*arguments, unlabelled=unlabelled, each=each)
    whole = sample if rest is None else sample + rest
    position = {image: i for i, image in enumerate(seen.images)}
    of_look: list[list[int]] = [[] for _ in whole.sums]
    for image, number in zip(sample.images, sample.looks, strict=True):
        of_look[number].append(position[image])
    looks = [
        Look(sums.to("cpu"), _read(seen, each, own[:NUM_READINGS], sums).rounded())
        for sums, own in zip(whole.sums, of_look, strict=True)
    ]
    found = ReferenceSet(
        category=category,
        model=model,
        unlabelled=unlabelled,
        images=whole.images,
        look_of=whole.looks,
        looks=tuple(looks),
        embeddings=whole.embeddings.half().cpu(),
        num_looked_at=whole.num_looked_at,
    )
    if not unlabelled:
        return found
    return replace(found, abnormal_share=_abnormal_share(found, seen, set(sample.images)))


def merge(earlier: ReferenceSet, later: ReferenceSet) -> ReferenceSet:
    """One set from two of the same looks, without common images.

    Distances stay what they were when they were read: those of the earlier set's images, judged
    by fewer others, are a little too far, so good images come out as better, never as worse.
    """
    looked_at = earlier.num_looked_at + later.num_looked_at
    shares = [each.abnormal_share * each.num_looked_at for each in (earlier, later)]
    looks = (
        Look(a.sums + b.sums, (b.readings + a.readings).first(NUM_READINGS))
        for a, b in zip(earlier.looks, later.looks, strict=True)
    )
    return replace(
        later,
        unlabelled=earlier.unlabelled or later.unlabelled,
        images=earlier.images + later.images,
        look_of=earlier.look_of + later.look_of,
        looks=tuple(looks),
        embeddings=torch.cat([earlier.embeddings, later.embeddings]),
        num_looked_at=looked_at,
        abnormal_share=sum(shares) / looked_at,
    )


def _read(seen: Seen, each: Sequence[Sums], own: list[int], total: Sums) -> Readings:
    """What some of the images read, each judged by all others in the sums."""
    distances = seen.grids[own]
    if own:
        distances = left_out_distances(seen.tokens[own], total, [each[i] for i in own])
    return Readings(distances, seen.grids[own], seen.logits[own])


def _abnormal_share(found: ReferenceSet, seen: Seen, kept: set[ReferenceImage]) -> float:
    """Share of the sample that lies where one in a hundred good images does, beyond that one."""
    out = [i for i, image in enumerate(seen.images) if image not in kept]
    if not out:
        return 0.0
    beyond = torch.ones(len(out), dtype=torch.bool, device=seen.tokens.device)
    for look in found.looks:
        if not look.sums.num_images:
            continue  # images were added, to other looks
        gaussian = Gaussian.fit(look.sums).to(seen.tokens.device)
        distances = gaussian.distances(seen.tokens[out])
        judged = look.scale(gaussian).judge(distances, seen.grids[out], seen.logits[out])
        beyond &= judged.reference_logit > 0
    return max(0.0, int(beyond.sum()) / len(seen.images) - RARE)


def _check(tokens: Tensor, unlabelled: bool) -> None:
    _check_finite(tokens)
    count = len(tokens)
    if is_blank(tokens).all():
        raise ValueError(BLANK)
    if unlabelled and count < LEAST_UNLABELLED:
        raise ValueError(
            f"{count} images are too few to find out without labels what is normal; "
            f"{LEAST_UNLABELLED} are needed, or known-good ones"
        )
    # Of copies, too, the last bits differ with the batch.
    if count > 1 and all(bool((each - tokens[0]).abs().max() < 1e-4) for each in tokens[1:]):
        raise ValueError(f"all {count} images are the same picture; give different ones")


def _check_finite(*values: Tensor) -> None:
    if not all(bool(each.isfinite().all()) for each in values):
        raise ValueError("the model's tokens are not finite numbers (NaN); try --precision fp32")
