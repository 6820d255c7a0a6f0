"""Hybrid semantic fusion (AdaCLIP, section 3.3): the most abnormal patches join the image score.

The 5·K patches with the highest abnormal probability are clustered into K groups; the mean of
the group centres is mixed into the class embedding. The released code clusters with an unseeded
scikit-learn k-means, so its scores vary from run to run. Here k-means is batched, runs on the
device without host synchronisation, starts from fixed points, and has no empty mean.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PATCHES_PER_CLUSTER = 5  # released code: 5·K patches are clustered
CLUSTER_SHARE = 0.2  # released code: image feature = 0.2 · clusters + 0.8 · class embedding
NUM_ITERATIONS = 20  # Lloyd steps; 100 points settle within about ten


def fuse(
    class_embedding: Tensor, patch_embeddings: Tensor, logit_grid: Tensor, num_clusters: int
) -> Tensor:
    """Image features that also see the most abnormal patches.

    Args:
        class_embedding: float32 [B, E], unit length.
        patch_embeddings: float32 [B, T, N, E], unit length.
        logit_grid: float32 [B, N], abnormal minus normal.
        num_clusters: K; with fewer patches than clusters, every patch is a cluster.

    Returns:
        float32 [B, E], unit length.
    """
    num_patches = min(PATCHES_PER_CLUSTER * num_clusters, logit_grid.shape[1])
    chosen = logit_grid.topk(num_patches, dim=1).indices
    index = chosen[:, None, :, None].expand(-1, patch_embeddings.shape[1], -1, 1)
    patches = patch_embeddings.take_along_dim(index, dim=2)  # [B, T, P, E]
    weights = cluster(patches.transpose(1, 2).flatten(2), min(num_clusters, num_patches))
    filled = (weights.sum(dim=1) > 0).to(weights.dtype)  # [B, K]
    centres = weights.transpose(1, 2) @ patches.mean(dim=1)  # [B, K, E]
    # An empty cluster has no centre, so it takes no part in the mean.
    mean = centres.sum(dim=1) / filled.sum(dim=1, keepdim=True)
    clusters = F.normalize(mean, dim=-1)
    return F.normalize(CLUSTER_SHARE * clusters + (1 - CLUSTER_SHARE) * class_embedding, dim=-1)


def cluster(points: Tensor, num_clusters: int) -> Tensor:
    """Batched k-means with a fixed start: the first point, then always the farthest one.

    Works on the Gram matrix of the points, so a step costs P·P·K instead of P·K·F.

    Args:
        points: float32 [B, P, F] with P ≥ num_clusters.

    Returns:
        float32 [B, P, K]: column k is 1/size on the members of cluster k and 0 elsewhere (all 0
        for a cluster without members), so that ``weights.mT @ x`` are the cluster means of x.
    """
    gram = points @ points.mT  # [B, P, P]
    norms = gram.diagonal(dim1=1, dim2=2)  # [B, P]
    centres = F.one_hot(_farthest_first(gram, norms, num_clusters), points.shape[1])
    weights = centres.transpose(1, 2).to(gram.dtype)  # every centre is a single point at first
    members = torch.zeros_like(weights)
    for _ in range(NUM_ITERATIONS):
        cross = gram @ weights  # [B, P, K] point · centre
        distance = norms[..., None] - 2 * cross + (weights * cross).sum(dim=1, keepdim=True)
        members = F.one_hot(distance.argmin(dim=-1), num_clusters).to(gram.dtype)
        sizes = members.sum(dim=1, keepdim=True)
        # An empty cluster keeps its centre, and may win members back in a later step.
        weights = torch.where(sizes > 0, members / sizes.clamp(min=1), weights)
    return members / members.sum(dim=1, keepdim=True).clamp(min=1)


def _farthest_first(gram: Tensor, norms: Tensor, num_clusters: int) -> Tensor:
    """Indices [B, K] of points that are far from each other, beginning with point 0."""
    chosen = [torch.zeros(len(gram), dtype=torch.long, device=gram.device)]
    nearest = torch.full_like(norms, float("inf"))
    for _ in range(num_clusters - 1):
        last = chosen[-1][:, None]
        to_last = gram.gather(2, last[..., None].expand(-1, gram.shape[1], 1)).squeeze(2)
        distance = norms + norms.gather(1, last) - 2 * to_last
        nearest = torch.minimum(nearest, distance)
        chosen.append(nearest.argmax(dim=1))
    return torch.stack(chosen, dim=1)
