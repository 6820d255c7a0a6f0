"""What is wrong with a model's weights, as far as a file's header and a cache's folders show it.

Read without importing PyTorch and before Ray starts, so that the commonest mistakes are answered at
once. Whoever loads the weights checks all of them.
"""

from __future__ import annotations

import json
import pickle
import threading
import urllib.error
import urllib.request
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

from .backbone import RELEASED, backbone_widths

MAX_HEADER = 100_000_000  # bytes; the safetensors format's own limit
PATIENCE_S = 2.0  # for the Hub, of which only an answer of any kind is wanted
# On the Hugging Face Hub, as pipeline.models.checkpoint and open_clip.pretrained name them.
OF_CHECKPOINTS = "cubert-gmbh/adaclip"
OF_BACKBONE = "timm/vit_large_patch14_clip_336.openai"

Shapes = dict[str, tuple[int, ...]]


def check_fit(flag: str, checkpoint: str, backbone: str, *, prompt_length: int) -> None:
    """Refuse a local checkpoint of another backbone, or of prompts of another length.

    Args:
        flag: what named the checkpoint.
        checkpoint: a path; anything else, and a file of another format, is passed over.
        backbone: open_clip's name, or path of a JSON configuration.
        prompt_length: M.

    Raises:
        ValueError: names a tensor, its shape and the one that would fit.
    """
    widths = backbone_widths(backbone)
    path = Path(checkpoint.removeprefix("file://")).expanduser()
    if widths is None or "://" in str(path) or not path.is_file():
        return
    found = {name.removeprefix("clip_model."): shape for name, shape in shapes(path).items()}
    expected = {
        "visual_prompter.static_prompts.0": (prompt_length, widths.vision),
        "text_prompter.static_prompts.0": (prompt_length, widths.text),
        "cls_token_layer.head.0.weight": (widths.embedding, widths.embedding),
    }
    for name, shape in expected.items():
        if name in found and found[name] != shape:
            raise ValueError(
                f"{flag} {checkpoint} was made for another backbone or prompt length than "
                f"--backbone {backbone} with --prompt-length {prompt_length}: its {name} is "
                f"{list(found[name])}, not {list(shape)}"
            )


def shapes(path: Path) -> Shapes:
    """The tensors of a safetensors file or of PyTorch's archive; empty if it is neither."""
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                return _of_archive(file)
            file.seek(0)
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size <= MAX_HEADER else {}
            return {name: tuple(each["shape"]) for name, each in header.items() if "shape" in each}
    except (OSError, ValueError, TypeError, AttributeError, LookupError, EOFError):
        return {}
    except (pickle.UnpicklingError, zipfile.BadZipFile):
        return {}


def _of_archive(file: IO[bytes]) -> Shapes:
    with zipfile.ZipFile(file) as archive:
        [name] = [each for each in archive.namelist() if each.endswith("/data.pkl")]
        if archive.getinfo(name).file_size > MAX_HEADER:
            return {}
        with archive.open(name) as pickled:
            state = _Shapes(pickled).load()
    return {name: shape for name, shape in state.items() if isinstance(shape, tuple)}


class _Shapes(pickle.Unpickler):
    """Reads tensors as their shapes; nothing that a file names is imported or called."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, size, *_: tuple(size),
            ("torch._utils", "_rebuild_parameter"): lambda shape, *_: shape,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and name.endswith("Storage"):
            return object
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a state dict")

    def persistent_load(self, pid: Any) -> None:
        """Where the numbers are."""


def check_released(backbone: str, backbone_weights: str, released: str | None) -> None:
    """Refuse released weights that are neither on this machine nor to be had from it.

    Args:
        backbone, backbone_weights: those of other names than the released model's are passed over.
        released: name of AdaCLIP's weights; None = they are the user's own.

    Raises:
        ValueError: says where they were looked for, and what to do.
    """
    wanted = [OF_CHECKPOINTS] if released is not None else []
    if (backbone, backbone_weights) == (RELEASED[0], "openai"):
        wanted.append(OF_BACKBONE)
    if not wanted:
        return
    from huggingface_hub import constants  # not above: most commands need none of its time

    cache = Path(constants.HF_HUB_CACHE)
    missing = [each for each in wanted if not _is_kept(cache, each)]
    problem = missing and _unreachable(constants.ENDPOINT, offline=constants.HF_HUB_OFFLINE)
    if problem:
        raise ValueError(
            f"the weights of {' and '.join(missing)} are not in {cache}, and {constants.ENDPOINT} "
            f"{problem}; bring that folder from a machine that has them ($HF_HOME), give files of "
            "your own (--checkpoint, --backbone-weights), or try --model small"
        )


def _is_kept(cache: Path, repository: str) -> bool:
    return any(cache.glob(f"models--{repository.replace('/', '--')}/snapshots/*/*"))


def _unreachable(endpoint: str, *, offline: bool) -> str:
    """Why a server gives no answer; "" if it does."""
    if offline:
        return "is not asked ($HF_HUB_OFFLINE)"
    outcome = ["does not answer"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(endpoint, timeout=PATIENCE_S):
                outcome[0] = ""
        except urllib.error.HTTPError:
            outcome[0] = ""
        except OSError as error:
            outcome[0] = f"can't be reached: {getattr(error, 'reason', error)}"

    # Looking a name up takes as long as the system likes.
    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(PATIENCE_S)
    return outcome[0]
