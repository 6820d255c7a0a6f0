"""Files of weights, as others write them → state dicts under the keys that a model expects.

Files are read with ``weights_only``, whatever they are called. What training scripts put around the
weights is taken off.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

# Under which training scripts keep the weights beside the epoch and the optimiser, most telling
# first: open_clip, Lightning, torchvision's references, DeepSpeed.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_SAFETENSORS_HEADER = 100_000_000  # bytes; the format's own limit


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read tensors from a safetensors file, a ``torch.save`` file or a TorchScript archive.

    What a training script saved beside the weights is left out.

    Raises:
        ValueError: anything but tensors inside; pickles that would run code are refused.
    """
    try:
        if path.suffix == ".safetensors" or _is_safetensors(path):
            return load_file(path)
        if _is_torchscript(path):  # what OpenAI published
            _refuse_code_at_load(path)
            return dict(torch.jit.load(str(path), map_location="cpu").state_dict())
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises whatever its reader stumbled on
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} can't be read as plain weights (nothing else is loaded, because a pickle "
            f"can run code): {reason}"
        ) from error
    while wrapper := _wrapper(state):
        state = state[wrapper]
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        held = some(sorted(map(str, state))) if isinstance(state, dict) else type(state).__name__
        raise ValueError(f"{path} holds no state dict of tensors (it holds: {held})")
    return state


def without_prefix(state: dict[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """The state with the prefix taken off that all its keys share, if the rest is then known.

    Wrappers of models put one before every key: the authors' training "clip_model.",
    DistributedDataParallel "module.", torch.compile "_orig_mod.", and several in a row.
    """
    known = set(expected)
    shared = os.path.commonprefix(list(state))  # noqa: RUF071, of characters, as wanted
    prefixes = [shared[: match.end()] for match in re.finditer(r"\.", shared)]
    best = max(["", *prefixes], key=lambda p: sum(k.removeprefix(p) in known for k in state))
    return {key.removeprefix(best): weight for key, weight in state.items()}


def misfits(
    state: Mapping[str, Tensor], expected: Mapping[str, torch.Size]
) -> tuple[list[str], list[str], list[str]]:
    """Keys that the state lacks, keys that it should not have, and shapes that are wrong."""
    missing, extra = expected.keys() - state.keys(), state.keys() - expected.keys()
    wrong = [
        f"{key} is {list(state[key].shape)}, the model needs {list(expected[key])}"
        for key in sorted(state.keys() & expected.keys())
        if state[key].shape != expected[key]
    ]
    return sorted(missing), sorted(extra), wrong


def some(items: list[str], limit: int = 4) -> str:
    """The first of the items, and how many more there are."""
    shown = ", ".join(items[:limit]) or "none"
    return shown + (f" and {len(items) - limit} more" if len(items) > limit else "")


def _wrapper(state: object) -> str | None:
    """The key under which a training script keeps the weights."""
    if not isinstance(state, dict):
        return None
    return next((name for name in WRAPPERS if isinstance(state.get(name), dict)), None)


def _is_safetensors(path: Path) -> bool:
    """Whether a file of any name begins as the format does: a length, and JSON."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= _SAFETENSORS_HEADER


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def _refuse_code_at_load(path: Path) -> None:
    """TorchScript runs ``__setstate__`` when it loads an archive, and scripts can write files.

    Raises:
        ValueError: the archive defines one.
    """
    # The reader that will load it: two readers of one zip file may see different entries.
    archive = torch._C.PyTorchFileReader(str(path))
    for name in archive.get_all_records():
        if name.startswith("code/") and b"__setstate__" in archive.get_record(name):
            raise ValueError("the TorchScript archive runs code when it is loaded (__setstate__)")
