"""Files of weights, as others write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn


def write(folder: Path, state: Any, name: str = "checkpoint.pth") -> str:
    """A ``torch.save`` file."""
    torch.save(state, folder / name)
    return str(folder / name)


def torchscript(state: Mapping[str, Any], path: Path) -> str:
    """A TorchScript archive whose state dict is ``state``, as OpenAI published CLIP."""
    root = nn.Module()
    for key, value in state.items():
        *parents, last = key.split(".")
        module = root
        for name in parents:
            if not hasattr(module, name):
                module.add_module(name, nn.Module())
            module = module.get_submodule(name)
        module.register_buffer(last, torch.as_tensor(value))
    torch.jit.script(root).save(str(path))
    return str(path)
