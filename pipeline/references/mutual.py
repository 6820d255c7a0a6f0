"""MuSc (Li et al., ICLR 2024): images without labels judge each other, patch by patch.

A yardstick for the references: every patch is compared with all patches of all other images, so
time and memory grow with the square of the number of images.

Of all these distances only the nearest patch of each image counts. Patches are rounded to a grid
so coarse that a processor multiplies it several times faster than float32; one product of two
images serves both. Whatever rounding leaves in doubt is then computed from the patches themselves:
the distances are exact.

Letters: T layers, M images, N patches, C width, E width of a class embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SHARE = 0.3  # of the other images, the nearest ones: section 3.3
RADII = (1, 3, 5)  # sides of the windows: section 3.2
WINDOWS = (1, 2, 3)  # neighbours of an image: published for MVTec AD

MIN_IMAGES = 5  # with four, 30 % of the others is less than one image
# Of 1,369 patches each: 125,000 pairs, half an hour for a layer and window, 1.4 GB of distances.
MAX_IMAGES = 500

# Rounding. A coordinate is off by 1/√12 of a step, so one distance by as much and the difference
# of the distances from a patch to two others by ½ step, whatever the distances: 2.5 steps are
# five standard deviations.
LARGEST = 127  # int8
MARGIN = 2.5  # steps by which the nearest patch may look farther than another
# Standard deviations of a coordinate that the grid covers. Of the tokens farthest from the mean,
# one coordinate in 150,000 lies outside and is cut: a distance moves less than by rounding.
RANGE = 4.5

CHUNK = 1024  # distances computed at a time: their patches stay in the cache
# Patches in doubt, for each patch of an image, above which one product in float64 takes less time.
CROWDED = 128


def aggregate(tokens: Tensor, radius: int) -> Tensor:
    """Patch tokens that know their neighbours (LNAMD, section 3.2).

    Layer norm over the whole block of an image, without weights; mean over a window around each
    patch, with zeros outside of the image counted in; unit length.

    Args:
        tokens: raw outputs of a block, [..., N, C]; N patches of a square grid, row by row.
        radius: side of the window in patches, odd.

    Returns:
        float32 [..., N, C].

    Raises:
        ValueError: an even window, or a number of patches that is no square.
    """
    if radius < 1 or radius % 2 == 0:
        raise ValueError(f"a window must have an odd side, not {radius}")
    side = _side(tokens.shape[-2])
    normed = F.layer_norm(tokens.float(), tokens.shape[-2:])
    grid = normed.mT.reshape(-1, tokens.shape[-1], side, side)
    means = F.avg_pool2d(grid, radius, stride=1, padding=radius // 2)
    return F.normalize(means.flatten(2).mT.reshape(tokens.shape), dim=-1)


@torch.no_grad()
def mutual_scores(tokens: Tensor, *, share: float = SHARE) -> Tensor:
    """How far each patch is from the other images (MSM, section 3.3).

    The distance to an image is that to its nearest patch; the score, the mean of the distances to
    the nearest images. An image is never compared with itself.

    Takes, beside the tokens, M·N·C + 4·M²·N bytes, and 40·N² for the pair at hand.

    Args:
        tokens: [M, N, C] of one layer and window, as ``aggregate`` gives them, any floating type.
        share: of the other images, 0 to 1; 1 is the mean over all of them.

    Returns:
        float32 [M, N].

    Raises:
        ValueError: too few or too many images, another shape, or tokens that are not numbers.
    """
    if tokens.ndim != 3 or 0 in tokens.shape[1:]:
        raise ValueError(f"tokens must be [images, patches, width], not {list(tokens.shape)}")
    count = _num_nearest(len(tokens), share)
    for i, image in enumerate(tokens):
        if not image.isfinite().all():
            raise ValueError(f"the tokens of image {i} are not all finite numbers")
    return _nearest(tokens).topk(count, dim=1, largest=False).values.mean(dim=1)


def mutual_grid(tokens: Tensor, *, radii: Sequence[int] = RADII, share: float = SHARE) -> Tensor:
    """Anomaly scores of patches: the mean over layers and windows.

    Args:
        tokens: raw outputs of blocks, [T, M, N, C]; N patches of a square grid.
        radii, share: of ``aggregate`` and ``mutual_scores``.

    Returns:
        float32 [M, h, w].

    Raises:
        ValueError: as ``aggregate`` and ``mutual_scores``.
    """
    if tokens.ndim != 4 or 0 in tokens.shape:
        raise ValueError(
            f"tokens must be [layers, images, patches, width], not {list(tokens.shape)}"
        )
    side = _side(tokens.shape[2])
    scores = [mutual_scores(aggregate(x, r), share=share) for x in tokens for r in radii]
    return torch.stack(scores).mean(dim=0).reshape(-1, side, side)


def image_scores(grid: Tensor, size: int) -> Tensor:
    """The maximum of each anomaly map.

    Args:
        grid: [M, h, w], of ``mutual_grid``.
        size: side of the maps in pixels.

    Returns:
        [M].
    """
    maps = F.interpolate(grid[:, None], (size, size), mode="bilinear", align_corners=True)
    return maps.amax(dim=(1, 2, 3))


def rescore(
    scores: Tensor, class_embeddings: Tensor, *, windows: Sequence[int] = WINDOWS
) -> Tensor:
    """Image scores that agree with those of similar images (RsCIN, section 3.4).

    Each is replaced by the mean over the images with the most similar class embeddings, weighted
    by the similarity; then the mean over several numbers of images.

    Args:
        scores: [M], of one category.
        class_embeddings: [M, E], of CLIP: their cosines are positive.
        windows: numbers of images, itself among them.

    Returns:
        [M] in [0, 1]; all 0 where the scores are equal.

    Raises:
        ValueError: a window larger than the number of images.
    """
    if not 1 <= min(windows) <= max(windows) <= len(scores):
        raise ValueError(f"windows must be from 1 to {len(scores)} images, not {list(windows)}")
    lowest, highest = scores.aminmax()
    if lowest == highest:
        return torch.zeros_like(scores)
    scaled = (scores - lowest) / (highest - lowest)
    unit = F.normalize(class_embeddings.to(scores.dtype), dim=-1)
    cosines = unit @ unit.mT
    # By rounding, a copy of an image may be more similar to it than the image itself.
    order = cosines.clone().fill_diagonal_(math.inf).topk(max(windows), dim=1).indices
    weights = cosines.gather(1, order)
    similar = weights * scaled[order]
    means = [similar[:, :k].sum(dim=1) / weights[:, :k].sum(dim=1) for k in windows]
    return torch.stack(means).mean(dim=0)


def _side(num_patches: int) -> int:
    side = math.isqrt(num_patches)
    if side * side != num_patches:
        raise ValueError(f"{num_patches} patches are not a square grid")
    return side


def _num_nearest(num_images: int, share: float) -> int:
    """How many of the other images count."""
    if num_images < MIN_IMAGES:
        raise ValueError(
            f"mutual scoring compares at least {MIN_IMAGES} images with each other, "
            f"and there are {num_images}"
        )
    if num_images > MAX_IMAGES:
        raise ValueError(
            f"mutual scoring compares every pair of images, and {num_images} are more than "
            f"{MAX_IMAGES}; take a sample of them, or a Gaussian of reference images"
        )
    count = math.floor(share * (num_images - 1))
    if not 1 <= count < num_images:
        raise ValueError(
            f"a share of {share} of {num_images - 1} other images is {count}; "
            f"it must be 1 to {num_images - 1}"
        )
    return count


def _nearest(tokens: Tensor) -> Tensor:
    """[M, M, N] distance of each patch of image i to the nearest one of image j, ∞ where i = j."""
    num_images, num_patches, width = tokens.shape
    nearest = tokens.new_full((num_images, num_images, num_patches), math.inf, dtype=torch.float32)
    grid = _round(tokens)
    half = torch.stack([image.float().square().sum(dim=1) / 2 for image in grid])
    # In the same memory for every pair: fresh pages cost more than what is done with them.
    table = half.new_empty(num_patches, num_patches)
    products = torch.empty_like(table, dtype=torch.int32)
    gathered = half.new_empty(2, CHUNK, width)
    for j in range(1, num_images):
        columns = grid[j].mT.clone(memory_format=torch.contiguous_format)
        for i in range(j):
            _multiply(grid[i], columns, products, table)
            table.sub_(half[i][:, None]).sub_(half[j])
            left, right = _in_doubt(table)
            if len(left) > CROWDED * num_patches:
                left, right = _certain(tokens[i], tokens[j])
            distance = _distances(tokens[i].float(), tokens[j].float(), left, right, gathered)
            nearest[i, j].scatter_reduce_(0, left, distance, "amin")
            nearest[j, i].scatter_reduce_(0, right, distance, "amin")
    return nearest


def _round(tokens: Tensor) -> Tensor:
    """The tokens on a grid of int8, [M, N, C], moved and turned, which changes no distance.

    CLIP's blocks have channels much larger than the others. A random rotation spreads them over
    all coordinates, so that a small step covers the range of each.
    """
    width = tokens.shape[2]
    centre = torch.stack([image.float().mean(dim=0) for image in tokens]).mean(dim=0)
    radius = max(float((image.float() - centre).norm(dim=1).max()) for image in tokens)
    step = min(1.0, RANGE / math.sqrt(width)) * radius / LARGEST or 1.0
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    turn = rotation.to(tokens.device) / step
    grid = torch.empty_like(tokens, dtype=torch.int8)
    for image, rounded in zip(tokens, grid, strict=True):
        rounded.copy_(((image.float() - centre) @ turn).round_().clamp_(-LARGEST, LARGEST))
    return grid


def _multiply(left: Tensor, right: Tensor, products: Tensor, out: Tensor) -> None:
    """int8 [N, C] @ [C, N] → float32 out; products is int32 memory. Exact: sums stay below 2²⁴."""
    if left.device.type == "cpu" and torch.cpu._is_vnni_supported():
        torch._int_mm(left, right, out=products)
        out.copy_(products)
    else:  # older processors may saturate sums of int8 products
        torch.mm(left.float(), right.float(), out=out)


def _in_doubt(table: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of patches of which one may be the other's nearest.

    Args:
        table: [N, N] −½ · squared distance in steps.

    Returns:
        Rows and columns, at least one pair for each row and each column.
    """
    lowest = torch.minimum(_with_margin(table.amax(dim=1))[:, None], _with_margin(table.amax(0)))
    rows, columns = (table >= lowest).nonzero(as_tuple=True)
    return rows, columns


def _with_margin(highest: Tensor) -> Tensor:
    """Entries of the table → those of distances that are ``MARGIN`` larger."""
    return ((-2 * highest).sqrt() + MARGIN).square() / -2


def _certain(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """As ``_in_doubt``, of patches [N, C] of which too many are alike: each one's nearest."""
    left, right = left.double(), right.double()
    table = left @ right.mT
    table.sub_(left.square().sum(dim=1)[:, None] / 2).sub_(right.square().sum(dim=1) / 2)
    every = torch.arange(len(table), device=table.device)
    rows = torch.cat([every, table.argmax(dim=0)])
    return rows, torch.cat([table.argmax(dim=1), every])


def _distances(
    left: Tensor, right: Tensor, rows: Tensor, columns: Tensor, gathered: Tensor
) -> Tensor:
    """‖left[row] − right[column]‖ of each pair: no digits cancel between near patches.

    Args:
        left, right: float32 [N, C].
        gathered: memory for [2, CHUNK, C].
    """
    distances = []
    for i, j in zip(rows.split(CHUNK), columns.split(CHUNK), strict=True):
        difference, other = gathered[:, : len(i)]
        torch.index_select(left, 0, i, out=difference)
        torch.index_select(right, 0, j, out=other)
        distances.append(torch.linalg.vector_norm(difference.sub_(other), dim=1))
    return torch.cat(distances)
