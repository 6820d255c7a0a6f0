"""Which backbones AdaCLIP can take, and the pixels that they want, by their configuration.

A configuration is a name that open_clip knows, or the path of a JSON file: the architecture alone,
with ``preprocess_cfg`` beside it if the pixels are not OpenAI's, or ``open_clip_config.json`` as
published models have it, whose architecture lies below ``model_cfg``.

What is taken runs here exactly as open_clip itself runs it; everything else is refused by its key.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import VisionTransformer

RGB = tuple[float, float, float]

# What OpenAI-style CLIPs set. The other keys change results without a weight that would show it, so
# fingerprints tell them.
_TOWER_KEYS = {"layers", "width", "mlp_ratio", "ls_init_value", "norm_kwargs"}
_OPENAI_KEYS = {
    "vision_cfg": _TOWER_KEYS | {"image_size", "patch_size", "head_width", "patch_dropout"},
    "text_cfg": _TOWER_KEYS | {"context_length", "vocab_size", "heads"},
}
_YES_OR_NO = (True, False)
_BLOCKS: dict[str, tuple[Any, ...]] = {
    "act_kwargs": (),
    "block_type": ("default", "custom"),
    **dict.fromkeys(("qk_norm", "scale_heads", "scale_attn", "scale_attn_inner"), _YES_OR_NO),
    **dict.fromkeys(("scale_fc", "output_tokens"), _YES_OR_NO),
}
# What is taken besides: its values, beside open_clip's default; () for any.
_TAKEN: dict[str, dict[str, tuple[Any, ...]]] = {
    "vision_cfg": {
        **_BLOCKS,
        "no_ln_pre": _YES_OR_NO,
        "pos_embed_type": ("learnable", "sin_cos_2d"),
        "pool_type": ("tok", "avg"),
        "final_ln_after_pool": _YES_OR_NO,
        **dict.fromkeys(("timm_model_name", "timm_model_pretrained", "timm_pool"), ()),
        **dict.fromkeys(("timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path"), ()),
    },
    "text_cfg": {
        **_BLOCKS,
        "proj_type": ("linear", "none"),
        "proj_bias": _YES_OR_NO,
        **dict.fromkeys(("pad_id", "eos_id"), ()),  # which causal towers do not look at
    },
}
_TOP_KEYS = {
    *("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "preprocess_cfg"),
    *("init_logit_scale", "init_logit_bias", "nonscalar_logit_scale"),
}
_OWN_TOKENIZER = "sentences are cut by CLIP's own tokenizer only"
_REMEDIES = {
    "vision_cfg.layers": "a ResNet has no tokens that prompts could join; a ViT has one number",
    "vision_cfg.attentional_pool": "the embedding may be the class token or the patches' mean",
    "text_cfg.no_causal_mask": "a word may see the words before it only",
    "text_cfg.hf_model_name": "the text tower must be open_clip's own",
    "text_cfg.embed_cls": "the embedding must be the end-of-text token's",
    "text_cfg.pool_type": "the embedding must be the end-of-text token's (argmax)",
    **dict.fromkeys(("text_cfg.hf_tokenizer_name", "text_cfg.tokenizer_mode"), _OWN_TOKENIZER),
    "text_cfg.tokenizer_kwargs": _OWN_TOKENIZER,
    **dict.fromkeys(
        ("vision_cfg.scaled_cosine_attn", "text_cfg.scaled_cosine_attn"),
        "open_clip itself can't run it",
    ),
    "multimodal_cfg": "CoCa's captions are no part of AdaCLIP",
}
VOCABULARY = 49408  # of CLIP's own tokenizer


class Pixels(NamedTuple):
    """What a backbone's images are normalised with, of values in [0, 1], RGB."""

    mean: RGB
    std: RGB


OPENAI_PIXELS = Pixels(OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)


def clip_config(backbone: str) -> dict[str, Any]:
    """Read an open_clip architecture: a registered name or the path of a JSON configuration.

    Returns what ``new_clip`` takes, with the exact GELU in the place of QuickGELU: the released
    AdaCLIP weights were trained with it, although OpenAI's own CLIP uses QuickGELU.

    Raises:
        ValueError: unknown name, or an architecture that can't be taken; names the key.
    """
    config = {"vision_cfg": {}, "text_cfg": {}, **_architecture(_read(backbone))}
    if "embed_dim" not in config:
        raise ValueError(f"backbone {backbone!r} has no key embed_dim, the width of its embedding")
    for key in sorted(config.keys() - _TOP_KEYS):
        _refuse(backbone, key, config[key])
    for part, defaults in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
        _check_tower(backbone, part, config[part], {f.name: f.default for f in fields(defaults)})
    _check_sizes(backbone, config)
    config.pop("preprocess_cfg", None)
    config["quick_gelu"] = False
    if not config.get("custom_text"):
        config.pop("custom_text", None)
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"] |= {"timm_model_pretrained": False}
    if "timm_model_name" in config["vision_cfg"] or config["text_cfg"].get("proj_type") == "none":
        _check_outputs(backbone, config)
    return config


def new_clip(config: dict[str, Any]) -> Any:
    """An open_clip model of ``clip_config``, with random weights.

    Its text tower's parts are its own, or with ``custom_text`` those of ``.text``.
    """
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    return (open_clip.CustomTextCLIP if "custom_text" in config else open_clip.CLIP)(**arguments)


def own_options(config: dict[str, Any]) -> dict[str, Any]:
    """What a ``clip_config`` sets beyond OpenAI-style CLIPs, for the fingerprint."""
    return {
        f"{part}.{key}": value
        for part, plain in _OPENAI_KEYS.items()
        for key, value in sorted(config[part].items())
        if key not in plain and key != "timm_model_pretrained"
    }


def pixels_of(backbone: str, weights: str | None) -> Pixels:
    """Mean and standard deviation of the pixels that a backbone was trained with.

    Args:
        backbone: open_clip name, whose ``weights`` may be a tag that tells them, or path of a
            JSON configuration, whose ``preprocess_cfg`` may. OpenAI's where nothing does.
        weights: open_clip tag, path or URI; None for random ones.

    Raises:
        ValueError: they are no three numbers, or a deviation is not positive; names the key.
    """
    if backbone.endswith(".json"):
        found: dict[str, Any] = _read(backbone).get("preprocess_cfg") or {}
    else:
        found = open_clip.get_pretrained_cfg(backbone, weights) if weights else {}
    told: dict[str, Any] = OPENAI_PIXELS._asdict()
    for name in told:
        told[name] = values = found.get(name, told[name])
        if not _is_rgb(values) or (name == "std" and min(values) <= 0):
            raise ValueError(
                f"backbone {backbone!r}: preprocess_cfg.{name} is {values!r}; expected three "
                f"{'positive ' if name == 'std' else ''}numbers, of red, green and blue"
            )
    mean, std = (tuple(map(float, values)) for values in told.values())
    return Pixels(mean, std)  # type: ignore[arg-type]


def _is_rgb(values: Any) -> bool:
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(isinstance(each, int | float) and math.isfinite(each) for each in values)
    )


def _read(backbone: str) -> dict[str, Any]:
    """A configuration as it is written."""
    if backbone.endswith(".json"):
        path = Path(backbone)
        if not path.is_file():
            raise ValueError(f"backbone configuration {backbone!r} does not exist")
        try:
            config = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"backbone configuration {backbone!r} is no JSON: {error}") from error
    else:
        config = copy.deepcopy(open_clip.get_model_config(backbone))
        if config is None:
            raise ValueError(
                f"unknown backbone {backbone!r}; give a name of open_clip.list_models() "
                "(the released checkpoints need ViT-L-14-336) or an open_clip JSON file"
            )
    if not isinstance(config, dict):
        raise ValueError(f"backbone configuration {backbone!r} is no JSON object")
    return config


def _architecture(config: dict[str, Any]) -> dict[str, Any]:
    """The part that open_clip's models are built from."""
    inner: dict[str, Any] = config.get("model_cfg", config)
    return inner


def _check_tower(backbone: str, part: str, tower: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Refuse what a tower can't be taken with.

    Args:
        part: "vision_cfg" or "text_cfg".
        tower: what it says.
        defaults: of open_clip.
    """
    # The telling ones first: with them, other keys stand that would be no reason by themselves.
    for key in sorted(tower, key=lambda key: f"{part}.{key}" not in _REMEDIES):
        value, taken = tower[key], _TAKEN[part].get(key)
        if key not in defaults:
            _refuse(backbone, f"{part}.{key}", value, "open_clip knows no such key")
        if key == "layers" and not isinstance(value, int):
            _refuse(backbone, f"{part}.{key}", value)
        if key in _OPENAI_KEYS[part] or taken == () or value == defaults[key]:
            continue
        if value not in (taken or ()):
            _refuse(backbone, f"{part}.{key}", value, possible=taken or (defaults[key],))


def _check_sizes(backbone: str, config: dict[str, Any]) -> None:
    for key in ("image_size", "patch_size"):
        size = config["vision_cfg"].get(key, 1)
        if not isinstance(size, int) and len(set(size)) > 1:
            _refuse(backbone, f"vision_cfg.{key}", size, "AdaCLIP sees squares; give one number")
    if (words := config["text_cfg"].get("vocab_size", VOCABULARY)) < VOCABULARY:
        _refuse(backbone, "text_cfg.vocab_size", words, f"{_OWN_TOKENIZER}, of {VOCABULARY} words")


def _check_outputs(backbone: str, config: dict[str, Any]) -> None:
    """Refuse towers whose passes can't be cut into blocks, or that end in another space.

    Nothing is computed: tensors have shapes only.
    """
    name = config["vision_cfg"].get("timm_model_name", "")
    key = "vision_cfg.timm_model_name" if name else "text_cfg.proj_type"
    if ":" in name:
        _refuse(backbone, key, name, "weights come from --backbone-weights; give timm's own name")
    try:
        with torch.device("meta"):
            clip = new_clip(config).eval()
            if name and not _is_plain_vit(clip.visual.trunk):
                _refuse(backbone, key, name, "of timm's models, only plain ViTs can be taken")
            side = clip.visual.trunk.patch_embed.img_size[0] if name else clip.visual.image_size[0]
            image = clip.encode_image(torch.zeros(1, 3, side, side))
            text = clip.encode_text(torch.zeros(1, clip.context_length, dtype=torch.int64))
    except (AssertionError, RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(
            f"backbone {backbone!r} can't be built with {key} {name!r}: "
            f"{error or type(error).__name__}"
        ) from error
    if not image.shape == text.shape == (1, config["embed_dim"]):
        raise ValueError(
            f"backbone {backbone!r}: embed_dim is {config['embed_dim']}, but an image gives "
            f"{tuple(image.shape[1:])} and a text {tuple(text.shape[1:])} numbers; see "
            "vision_cfg.timm_pool, vision_cfg.timm_proj and text_cfg.proj_type"
        )


def _is_plain_vit(trunk: Any) -> bool:
    """Whether a timm model is blocks over patches at learned places, and nothing else."""
    return (
        type(trunk) is VisionTransformer
        and type(trunk.patch_embed) is PatchEmbed
        and trunk.pos_embed is not None
    )


def _refuse(
    backbone: str, key: str, value: Any, why: str = "", possible: Collection[Any] = ()
) -> NoReturn:
    reason = why or _REMEDIES.get(key, "")
    if not reason:
        reason = (
            f"possible: {', '.join(map(str, possible))}" if possible else "no such key is known"
        )
    raise ValueError(
        f"backbone {backbone!r} can't be taken: {key} is {value!r}; {reason} (docs/backbones.md)"
    )
