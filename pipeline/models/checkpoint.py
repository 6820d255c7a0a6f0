"""Loading and saving AdaCLIP: released ``.pth`` files, safetensors, and backbone weights.

A checkpoint holds AdaCLIP's own weights (10.7 M for ViT-L-14-336), never the backbone's. Files
are read with ``weights_only``, and the set of keys and every shape must match: the released
loader's ``strict=False`` hides what is missing.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import open_clip
import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import save as to_safetensors
from torch import Tensor

from .adaclip import AdaCLIP, AdaCLIPSettings
from .clip import build_clip
from .configuration import clip_config, new_clip, own_options, pixels_of
from .weight_cache import fetch
from .weight_files import misfits, read_state_dict, some, without_prefix

Precision = Literal["fp32", "bf16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}

# The authors' files, mirrored unchanged on the Hugging Face Hub. Their code is MIT; no licence is
# stated for the weights.
RELEASED_REPOSITORY = "cubert-gmbh/adaclip"
RELEASED_REVISION = "16153b4ba74c2fe54a99679fc2e1b1e29993dc3f"
RELEASED = {
    "mvtec_colondb": "be51a42c052bd4cf060e54f503a1f5d0b2a3b899bc8dc2e243042f18b215427e",
    "visa_clinicdb": "3deabbbaf1e412cfdfcb42923a500b986f4b9ee96ccbc7a735d89dbc87df44c8",
    "all": "33e8d3db1cb4aab030866b8b70a46e10aa27ebf2c23b5463cb07f2574addd98c",
}
# The TorchScript archive that OpenAI published carries three integers beside the weights.
OPENAI_SIZES = {"input_resolution", "context_length", "vocab_size"}
CALIBRATION = "score_calibration"  # key of a tensor [2], AdaCLIP.score_calibration
RELEASED_PREFIX = "clip_model."  # what the authors' training wrapper puts before every key


def load_adaclip(
    *,
    backbone: str = "ViT-L-14-336",
    backbone_weights: str | None = "openai",
    checkpoint: str | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    seed: int = 0,
    **settings: Any,
) -> AdaCLIP:
    """Build AdaCLIP, ready for ``predict``.

    Args:
        backbone: open_clip name, or path of an open_clip JSON configuration (docs/backbones.md).
        backbone_weights: open_clip tag such as "openai", or path or URI (``s3://``, ``hf://``,
            anything fsspec reaches) of a state dict; None = random weights.
        checkpoint: "mvtec_colondb", "visa_clinicdb" or "all" for the released weights; path or
            URI of a released ``.pth`` or of a safetensors file; None = random weights.
        device: where the model runs.
        precision: "fp32" or "bf16"; unit-length features, logits and the fusion stay fp32.
        seed: of the random weights, which are the same in every process.
        **settings: fields of ``AdaCLIPSettings``: image_size, prompt_length, prompt_depth,
            num_clusters, use_fusion, prompt_kind, prompted_towers, frozen_image_size.

    Raises:
        ValueError: something does not exist or does not fit; the message names it.
    """
    if precision not in DTYPES:
        raise ValueError(f"precision must be one of {', '.join(DTYPES)}, got {precision!r}")
    # Unfit backbones are refused before anything is downloaded for them.
    config, pixels = clip_config(backbone), pixels_of(backbone, backbone_weights)
    weights = None if backbone_weights is None else _backbone_state(backbone, backbone_weights)
    if weights is not None:
        weights = _fitting_backbone(backbone, config, str(backbone_weights), weights)
    clip = build_clip(backbone, weights, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AdaCLIP(
            clip,
            AdaCLIPSettings(**settings),
            name=Path(backbone).stem,
            pixels=pixels,
            options=own_options(config),
        )
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
    return model.eval().to(device, DTYPES[precision])


def load_checkpoint(model: AdaCLIP, checkpoint: str) -> None:
    """Fill AdaCLIP's own weights from a released name, a path or a URI.

    Raises:
        ValueError: the file can't be had, is not a checkpoint, or is one for another model.
    """
    path = _released_file(checkpoint) if checkpoint in RELEASED else fetch(checkpoint)
    expected = {key: weight.shape for key, weight in model.learnable_state().items()}
    state = without_prefix(read_state_dict(path), expected)
    calibration = state.pop(CALIBRATION, None)
    missing, extra, wrong = misfits(state, expected)
    if missing or extra:
        raise ValueError(
            f"checkpoint {checkpoint!r} is not an AdaCLIP checkpoint for these settings: "
            f"missing keys: {some(missing)}; unexpected keys: {some(extra)}"
        )
    if wrong:
        raise ValueError(
            f"checkpoint {checkpoint!r} was made for another backbone or prompt length than "
            f"{model.name!r}: {some(wrong)}"
        )
    model.load_state_dict(state, strict=False)
    model.score_calibration = None if calibration is None else _calibration(checkpoint, calibration)


def _calibration(checkpoint: str, found: Tensor) -> tuple[float, float]:
    if found.shape != (2,) or not found.isfinite().all() or found[0] <= 0:
        raise ValueError(
            f"checkpoint {checkpoint!r}: {CALIBRATION} is {found.tolist()}; it must be a positive "
            "scale and a shift of the score's logit"
        )
    scale, shift = found.double().tolist()
    return scale, shift


def save_checkpoint(model: AdaCLIP, path: str | Path) -> None:
    """Write AdaCLIP's own weights in fp32: released format for ``.pth``, else ``.safetensors``.

    A calibration of the score stands beside them, which the released code passes over.

    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    state = {k: v.detach().float().cpu().contiguous() for k, v in model.learnable_state().items()}
    if model.score_calibration is not None:
        state[CALIBRATION] = torch.tensor(model.score_calibration, dtype=torch.float64)
    if path.suffix == ".safetensors":
        data = to_safetensors(state)
    elif path.suffix == ".pth":
        buffer = io.BytesIO()
        torch.save({RELEASED_PREFIX + k: v for k, v in state.items()}, buffer)
        data = buffer.getvalue()
    else:
        raise ValueError(f"{path} must end in .pth (released format) or .safetensors")
    _write(path, data)


def _released_file(name: str) -> Path:
    file = f"pretrained_{name}.pth"
    try:
        path = Path(hf_hub_download(RELEASED_REPOSITORY, file, revision=RELEASED_REVISION))
    except OSError as error:
        raise ValueError(
            f"the released checkpoint {name!r} can't be fetched from the Hugging Face Hub "
            f"({RELEASED_REPOSITORY}): {error}. Offline, give a path or an s3:// URI instead"
        ) from error
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != RELEASED[name]:
        raise ValueError(
            f"{path} is not the released checkpoint {name!r}: its sha256 is {found}; "
            "delete the file to fetch it again"
        )
    return path


def _backbone_state(backbone: str, weights: str) -> dict[str, Tensor]:
    config = open_clip.get_pretrained_cfg(backbone, weights)
    if not config and ("://" in weights or "/" in weights or "." in weights):
        return read_state_dict(fetch(weights))  # no tag has such a name
    if not config and Path(weights).is_file():
        return read_state_dict(Path(weights))
    if not config:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(backbone)) or "none"
        raise ValueError(
            f"open_clip has no weights {weights!r} for {backbone!r} (it has: {tags}), and there "
            "is no such file; give one of those, or a path or URI of a state dict"
        )
    try:
        return read_state_dict(Path(open_clip.download_pretrained(config)))
    except OSError as error:
        raise ValueError(
            f"backbone weights {weights!r} of {backbone!r} can't be downloaded: {error}. "
            "Offline, give --backbone-weights a path or an s3:// URI instead"
        ) from error


def _fitting_backbone(
    backbone: str, config: dict[str, Any], weights: str, state: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The backbone's weights under its own keys.

    Raises:
        ValueError: they are another architecture's.
    """
    with torch.device("meta"):
        model = new_clip(config)
    expected = {key: weight.shape for key, weight in model.state_dict().items()}
    state = without_prefix(state, expected)
    sizes = dict.fromkeys(OPENAI_SIZES & state.keys(), torch.Size())
    missing, extra, wrong = misfits(state, expected | sizes)
    if missing or extra or wrong:
        raise ValueError(
            f"backbone weights {weights!r} do not fit {backbone!r}: missing keys: "
            f"{some(missing)}; unexpected keys: {some(extra)}; other shapes: {some(wrong)}. "
            "Give weights of this architecture, or the --backbone that they are of"
        )
    return state


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    incomplete = path.with_name(f".incomplete-{uuid4().hex}")
    try:
        incomplete.write_bytes(data)
        incomplete.replace(path)
    finally:
        incomplete.unlink(missing_ok=True)
