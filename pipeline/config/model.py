"""Which model: the settings that every job shares."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

from pipeline.packaged import SMALL_MODEL

from .backbone import RELEASED, backbone_input
from .checks import check_at_least

NONE = "none"  # what the command line calls "random weights"
SMALL = "small"
RELEASED_WEIGHTS = ("all", "mvtec_colondb", "visa_clinicdb")  # the released code's, by its names


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model, for every job. The defaults are the released one."""

    GROUP: ClassVar = "the model in detail"

    backbone: str = "ViT-L-14-336"
    """open_clip model name, or path of an open_clip JSON configuration (docs/backbones.md)."""
    backbone_weights: str = "openai"
    """open_clip tag, or path or URI of a state dict; "none" = random weights, for tests."""
    image_size: int = 0
    """Side in pixels to which images are resized, a multiple of the backbone's patch size. 0 = the
    one that the backbone is used at: 518 for ViT-L-14-336, else what its configuration says."""
    prompt_length: int = 5
    """M, prompt tokens a block; what the checkpoint was trained with."""
    prompt_depth: int = 4
    """J, prompted blocks counted from the input; what the checkpoint was trained with."""
    num_clusters: int = 20
    """K of the hybrid semantic fusion."""
    use_fusion: bool = True
    """Hybrid semantic fusion on, or the image score from the class embedding alone."""
    prompt_kind: Literal["both", "static", "dynamic", "none"] = "both"
    """Static prompts, dynamic prompts, their sum, or none."""
    prompted_towers: Literal["both", "visual", "text"] = "both"
    """Towers that receive prompts."""
    frozen_image_size: int | None = None
    """Faster, changes results, and so off: side in pixels at which the pass that only makes the
    dynamic prompts sees the image, such as 336 for ViT-L-14-336 (docs/performance-model.md)."""

    def remarks(self) -> list[str]:
        """What may not be meant."""
        own = backbone_input(self.backbone)
        if own is None or self.image_size in (0, own.image_size):
            return []
        return [
            f"--image-size {self.image_size}: {self.backbone} is used at {own.image_size} px, and "
            "scores at another size mean less; leave the flag out, unless the checkpoint was "
            "trained at that size"
        ]

    def _settle_image_size(self) -> None:
        """Put the backbone's own size where none is given, and refuse sizes that don't fit.

        Raises:
            ValueError: names the flag and the remedy.
        """
        check_at_least("--image-size", self.image_size, 0)
        check_at_least("--frozen-image-size", self.frozen_image_size, 1)
        own = backbone_input(self.backbone)
        if own is None:
            if not self.image_size:
                raise ValueError(
                    f"--backbone {self.backbone}: there is no open_clip configuration of that name "
                    "that tells the size of its input; give --image-size, or a name of "
                    "open_clip.list_models() (the released checkpoints need ViT-L-14-336), or an "
                    "open_clip JSON file"
                )
            return
        object.__setattr__(self, "image_size", self.image_size or own.image_size)
        own.check("--image-size", self.image_size, self.backbone)
        if self.frozen_image_size:
            own.check("--frozen-image-size", self.frozen_image_size, self.backbone)

    def _spec(
        self, checkpoint: str, precision: Literal["fp32", "bf16"], seed: int = 0
    ) -> ModelSpec:
        settings = {each.name: getattr(self, each.name) for each in fields(ModelConfig)}
        return ModelSpec(**settings, checkpoint=checkpoint, precision=precision, seed=seed)


@dataclass(frozen=True, kw_only=True)
class NamedModelConfig(ModelConfig):
    """The same, or the few models that most people use, by name."""

    GROUP: ClassVar = "the model"

    model: str | None = None
    """"all" (the default), "mvtec_colondb" or "visa_clinicdb", AdaCLIP's released weights; "small",
    which comes with the package, for trying; or a path or URI of weights of your own. The released
    ones are named after the data that trained them. For another backbone than ViT-L-14-336 give
    --backbone, --backbone-weights and --checkpoint instead."""

    def _settle_model(self) -> None:
        """Put what a name stands for, and the backbone's own size, where nothing else is given.

        Raises:
            ValueError: there is no such model, or other flags name one, too.
        """
        defaults = {each.name: each.default for each in fields(self)}
        for name, value in (_of_name(self.model) if self.model is not None else {}).items():
            if getattr(self, name) not in (defaults[name], value):
                flag = "--" + name.replace("_", "-")
                raise ValueError(f"--model {self.model} says what {flag} says, too; give one")
            object.__setattr__(self, name, value)
        self._settle_image_size()


def _of_name(model: str) -> dict[str, str]:
    if model == SMALL:
        return {name: SMALL_MODEL[name] for name in ("backbone", "backbone_weights", "checkpoint")}
    path = Path(model)
    if model not in RELEASED_WEIGHTS and not (path.suffix or "/" in model or path.exists()):
        raise ValueError(
            f"--model {model!r}: there is no model of that name; known are {SMALL}, "
            f"{', '.join(RELEASED_WEIGHTS)}, and any path or URI of weights"
        )
    return {"backbone": RELEASED[0], "backbone_weights": "openai", "checkpoint": model}


@dataclass(frozen=True, kw_only=True)
class ModelSpec(ModelConfig):
    """All that makes a model; ``distributed.loading`` loads it in any process."""

    checkpoint: str
    """"none" = random weights."""
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    """Of random weights."""
