"""One Gaussian of the patches of good images, and how far a patch is from it.

PaDiM (Defard et al., ICPR 2021) without positions: parts lie anyhow in a bucket's images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .sums import Sums

# Added to every variance, as a share of their sum; 0.0001 to 0.01 made no difference
# (docs/references.md), and it is what makes one image's patches enough to invert.
REGULARISATION = 0.001


@dataclass(frozen=True)
class Gaussian:
    """Mean and inverse factor of the covariance of each layer, float32."""

    whitening: Tensor
    """[T, C, C] lower triangular: the inverse Cholesky factor of the regularised covariance."""
    offset: Tensor
    """[T, C] whitening · mean."""

    @classmethod
    def fit(cls, sums: Sums) -> Gaussian:
        """The Gaussian of some patches.

        Raises:
            ValueError: they are all the same patch, or hold NaN.
        """
        mean, covariance = sums.moments()
        spread = covariance.diagonal(dim1=1, dim2=2).sum(dim=1)  # [T]
        if not spread.isfinite().all():
            raise ValueError("the tokens of a reference image are not finite numbers (NaN)")
        # Unit vectors that differ at all spread by far more than float64 rounds.
        if sums.num_patches < 2 or (spread < 1e-9).any():
            raise ValueError("all patches of the reference images are the same; are they blank?")
        covariance = covariance.clone()
        covariance.diagonal(dim1=1, dim2=2).add_(REGULARISATION * spread[:, None])
        factor = torch.linalg.cholesky(covariance)
        identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
        whitening = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
        offset = (whitening @ mean[..., None]).squeeze(-1)
        return cls(whitening.float(), offset.float())

    def to(self, device: torch.device | str) -> Gaussian:
        """On another device."""
        return Gaussian(self.whitening.to(device), self.offset.to(device))

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.whitening.nbytes + self.offset.nbytes

    @property
    def foreign_distance(self) -> float:
        """Distance of what shares nothing with the patches: of a unit vector in any direction."""
        squared = self.whitening.double().square().sum(dim=(1, 2)) / self.whitening.shape[-1]
        return float(squared.sqrt().mean())

    def distances(self, tokens: Tensor) -> Tensor:
        """Mahalanobis distance of every patch, mean over the layers.

        √Σᵢ projᵢ² / (λᵢ + ε·Σλ) over the eigenvectors of the covariance.

        Args:
            tokens: [B, T, N, C], of ``normalise``.

        Returns:
            float32 [B, N].
        """
        total = tokens.new_zeros(tokens.shape[0], tokens.shape[2])
        for layer, (whitening, offset) in enumerate(zip(self.whitening, self.offset, strict=True)):
            centred = torch.nn.functional.linear(tokens[:, layer], whitening, -offset)
            total += torch.linalg.vector_norm(centred, dim=-1)
        return total / len(self.whitening)
