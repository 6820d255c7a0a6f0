"""Muon for CPUs: ``torch.optim.Muon`` orthogonalises one matrix at a time, in bfloat16, which a CPU
without instructions for it does many times slower than float32.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

# K. Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
EPSILON = 1e-7


class Muon(torch.optim.Optimizer):
    """The steps of ``torch.optim.Muon``, in float32 and of all matrices of a shape at once.

    Args:
        params: matrices [m, n].
        lr: learning rate; a matrix higher than wide learns by √(m/n) more.
        weight_decay: decoupled, as in AdamW.
        momentum: Nesterov's.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move along the nearest orthogonal matrix of each mean gradient."""
        for group in self.param_groups:
            of_shape = defaultdict(list)
            for param in group["params"]:
                if param.grad is not None:
                    of_shape[param.shape].append(param)
            for (rows, columns), params in of_shape.items():
                gradients = [param.grad for param in params]
                means = [self._mean(param) for param in params]
                torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
                ahead = torch.stack(torch._foreach_lerp(gradients, means, group["momentum"]))
                rate = group["lr"] * math.sqrt(max(1, rows / columns))
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_sub_(params, (rate * orthogonal(ahead)).unbind())

    def _mean(self, param: Tensor) -> Tensor:
        mean: Tensor = self.state[param].setdefault("momentum_buffer", torch.zeros_like(param))
        return mean


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices [..., m, n] with their singular values brought near 1, from 0.7 to 1.2."""
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonal(matrices.mT).mT
    a, b, c = NEWTON_SCHULZ
    x: Tensor = matrices / torch.linalg.matrix_norm(matrices, keepdim=True).clamp(min=EPSILON)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x
