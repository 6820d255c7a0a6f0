"""Hybrid semantic fusion: a k-means that always ends well, and the features mixed from it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor

from pipeline.models.fusion import CLUSTER_SHARE, cluster, fuse
from tests import golden


def random_points(batch: int, num: int, width: int, seed: int = 0) -> Tensor:
    """Normal points [B, P, F]."""
    return torch.randn(batch, num, width, generator=torch.Generator().manual_seed(seed))


def unit(*shape: int, seed: int = 0) -> Tensor:
    """Random vectors of unit length."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(shape, generator=generator), dim=-1)


def assert_partition(weights: Tensor) -> None:
    """Each point is in one cluster, and a cluster's weights are 1/size, or 0 when it is empty."""
    assert weights.isfinite().all()
    members = weights > 0
    assert (members.sum(dim=-1) == 1).all()
    sizes = members.sum(dim=-2, keepdim=True)
    torch.testing.assert_close(weights, members / sizes.clamp(min=1))
    torch.testing.assert_close(weights.sum(dim=-2), (sizes.squeeze(-2) > 0).float())


def inertia(points: Tensor, weights: Tensor) -> float:
    """Sum of squared distances of points [P, F] to their cluster's mean."""
    means = weights.mT @ points
    return float((points - means[weights.argmax(dim=-1)]).square().sum())


# --- cluster --------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 3),
    num=st.integers(1, 40),
    num_clusters=st.integers(1, 25),
    width=st.integers(1, 8),
    distinct=st.integers(1, 40),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e3]),
    seed=st.integers(0, 99),
)
def test_every_point_is_in_exactly_one_cluster(
    batch: int, num: int, num_clusters: int, width: int, distinct: int, scale: float, seed: int
) -> None:
    points = scale * random_points(batch, num, width, seed)
    points = points[:, torch.arange(num) % distinct]  # duplicates, when distinct < num
    weights = cluster(points, min(num_clusters, num))
    assert weights.shape == (batch, num, min(num_clusters, num))
    assert_partition(weights)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.7, 1e-8])
def test_constant_points_are_one_cluster(value: float) -> None:
    weights = cluster(torch.full((2, 100, 16), value), 20)
    assert_partition(weights)
    assert ((weights > 0).any(dim=1).sum(dim=-1) == 1).all()


def test_duplicates_stay_together() -> None:
    distinct = random_points(1, 5, 16)
    weights = cluster(distinct.repeat(1, 4, 1), 5)
    assert_partition(weights)
    assert torch.equal(weights[0].argmax(-1), weights[0, :5].argmax(-1).repeat(4))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(1, 5))


def test_fewer_distinct_points_than_clusters_leave_clusters_empty() -> None:
    weights = cluster(random_points(1, 3, 8).repeat(1, 10, 1), 20)
    assert_partition(weights)
    assert (weights.sum(dim=1) > 0).sum() == 3


def test_as_many_clusters_as_points_are_the_points() -> None:
    weights = cluster(random_points(2, 12, 8), 12)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 12))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 12))


def test_one_cluster_is_the_mean() -> None:
    points = random_points(2, 30, 8)
    means = cluster(points, 1).mT @ points
    torch.testing.assert_close(means, points.mean(dim=1, keepdim=True))


@pytest.mark.parametrize("num_blobs", [2, 5, 20])
def test_well_separated_blobs_are_found_exactly(num_blobs: int) -> None:
    generator = torch.Generator().manual_seed(num_blobs)
    labels = torch.randint(num_blobs, (100,), generator=generator)
    labels[:num_blobs] = torch.arange(num_blobs)
    centres = 100 * torch.eye(num_blobs, 32)
    points = centres[labels] + torch.randn(100, 32, generator=generator)
    found = cluster(points[None], num_blobs)[0].argmax(dim=-1)
    pairs = {(int(a), int(b)) for a, b in zip(labels, found, strict=True)}
    assert len(pairs) == num_blobs


def test_a_batch_is_clustered_as_its_images_alone() -> None:
    points = random_points(4, 100, 64)
    together = cluster(points, 20)
    for i in range(4):
        torch.testing.assert_close(cluster(points[i : i + 1], 20)[0], together[i])


def test_a_shuffled_batch_is_clustered_the_same() -> None:
    points, order = random_points(4, 100, 64), [2, 0, 3, 1]
    torch.testing.assert_close(cluster(points[order], 20), cluster(points, 20)[order])


def test_clustering_twice_is_identical_and_needs_no_random_numbers() -> None:
    points = random_points(2, 100, 64)
    torch.manual_seed(1)
    first = cluster(points, 20)
    torch.manual_seed(2)
    assert torch.equal(cluster(points, 20), first)


# Like the 100 patches, over four layers, of the released model; structure in few dimensions
# would depend more on the start.
@pytest.mark.parametrize("width", [16, 64, 256])
@pytest.mark.parametrize("seed", range(4))
def test_clusters_are_about_as_tight_as_scikit_learns(width: int, seed: int) -> None:
    points = random_points(1, 100, width, seed)[0]
    best = KMeans(20, n_init=10, random_state=0).fit(points.numpy()).inertia_
    assert inertia(points, cluster(points[None], 20)[0]) <= 1.15 * best


def test_clusters_have_settled() -> None:
    """No point is nearer to another cluster's mean: more steps would change nothing."""
    points = random_points(1, 100, 64)[0]
    weights = cluster(points[None], 20)[0]
    nearest = torch.cdist(points, weights.mT @ points).argmin(dim=-1)
    assert torch.equal(nearest, weights.argmax(dim=-1))


# --- fuse -----------------------------------------------------------------------------------


def test_fused_features_have_unit_length() -> None:
    fused = fuse(unit(3, 64), unit(3, 4, 144, 64, seed=1), random_points(1, 3, 144)[0], 20)
    assert fused.shape == (3, 64)
    torch.testing.assert_close(fused.norm(dim=-1), torch.ones(3))


def test_equal_patches_are_mixed_into_the_class_embedding() -> None:
    image, patch = unit(2, 64), unit(2, 64, seed=1)
    patches = patch[:, None, None].expand(2, 4, 144, 64)
    expected = F.normalize(CLUSTER_SHARE * patch + (1 - CLUSTER_SHARE) * image, dim=-1)
    fused = fuse(image, patches, torch.zeros(2, 144), 20)
    torch.testing.assert_close(fused, expected, rtol=0, atol=1e-5)


def test_every_cluster_counts_the_same_whatever_its_size() -> None:
    """The mean of the centres, not of the patches (section 3.3)."""
    image, (one, other) = unit(1, 64), unit(2, 64, seed=1)
    patches = torch.stack([one, *[other] * 9])[None, None].expand(1, 4, 10, 64)
    clusters = F.normalize((one + other) / 2, dim=-1)
    expected = F.normalize(CLUSTER_SHARE * clusters + (1 - CLUSTER_SHARE) * image, dim=-1)
    fused = fuse(image, patches, torch.zeros(1, 10), 2)
    torch.testing.assert_close(fused, expected, rtol=0, atol=1e-5)


def test_only_the_most_abnormal_patches_count() -> None:
    image, patches = unit(1, 64), unit(1, 4, 144, 64, seed=1)
    grid = torch.linspace(-5, 5, 144)[None]
    before = fuse(image, patches, grid, 2)  # 5 patches for each cluster
    changed = patches.clone()
    changed[:, :, :-10] = unit(1, 4, 134, 64, seed=2)
    assert torch.equal(fuse(image, changed, grid, 2), before)
    changed[:, :, -10] = unit(1, 4, 64, seed=3)
    assert not torch.allclose(fuse(image, changed, grid, 2), before)


def test_fewer_patches_than_clusters_are_a_cluster_each() -> None:
    image, patches = unit(2, 64), unit(2, 4, 9, 64, seed=1)
    clusters = F.normalize(patches.mean(dim=(1, 2)), dim=-1)
    expected = F.normalize(CLUSTER_SHARE * clusters + (1 - CLUSTER_SHARE) * image, dim=-1)
    fused = fuse(image, patches, torch.zeros(2, 9), 20)
    torch.testing.assert_close(fused, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [-2.0, 0.0, 1.5])
def test_constant_images_have_finite_scores(golden_files: Mapping[str, str], value: float) -> None:
    images = torch.full((2, 3, golden.IMAGE_SIZE, golden.IMAGE_SIZE), value)
    prediction = golden.load(golden_files).predict(images, ["grass", "metal nut"])
    assert prediction.score.isfinite().all()
    assert prediction.logit_grid.isfinite().all()


def test_more_clusters_than_patches_run_through_the_whole_model(
    golden_files: Mapping[str, str],
) -> None:
    model = golden.load(golden_files, num_clusters=200)
    assert np.isfinite(float(model.predict(*golden.batch([0])).score))
