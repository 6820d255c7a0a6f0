"""Settings of every job that reads images and runs the model on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import ClassVar, Literal, Self

from pipeline.gray_range import GrayRange
from pipeline.tiling import WHOLE, Tiling

from .backbone import backbone_input
from .checks import check_there, refuse_credentials
from .job import JobConfig, is_local
from .model import RELEASED_WEIGHTS, ModelSpec, NamedModelConfig
from .scorer import ScorerConfig
from .weights import check_fit, check_released

DEFAULT_CATEGORY_COLUMN = "category"


@dataclass(frozen=True, kw_only=True)
class ImagesConfig(NamedModelConfig, ScorerConfig, JobConfig):
    """Which images, of which categories, through which model, on what."""

    GROUP: ClassVar = "images"

    input: tuple[str, ...]
    """Folders (s3://bucket/prefix, gs://..., a local path), single objects, or lists of URIs: a
    .parquet or .csv file with a column "uri". Repeat for more. S3 credentials, profile and
    endpoint come from the usual AWS variables and files."""

    include: tuple[str, ...] = ()
    """Glob on the key below the prefix, any case; * crosses folders. Repeat for more, as in
    --include "*.jpg" --include "*.png". Default: every object."""
    exclude: tuple[str, ...] = ()
    """Glob of keys to leave out. Repeat for more."""
    since: str | None = None
    """Only objects modified since: a date or time (2026-11-23, 2026-11-23T18:00Z; UTC unless it
    says otherwise), or so long ago (36h, 2d, 1w)."""

    category: str | None = None
    """Class name of all images, such as "metal nut". The model is told this name. Without any
    category flag, the first folder below the prefix is the name, or "object" if there is none."""
    category_regex: str | None = None
    """Regular expression with a group (?P<category>...), searched in each URI."""
    category_level: int = 0
    """Which folder below the prefix names the class: 0 the first, -1 the image's own."""
    category_column: str = DEFAULT_CATEGORY_COLUMN
    """Column of an input list that names the class; used where the list has it."""

    dicom_frames: Literal["first", "all"] = "first"
    """Which frames of a DICOM file of several are images. With "all" each is one of its own, called
    by its number, as in s3://bucket/scan.dcm#3, and has a row. Takes the extra [dicom], and a look
    into each object that is called .dcm, .dicom, .dic or .ima, ends in a number or has no suffix
    (docs/inputs.md)."""

    checkpoint: str = "all"
    """Released AdaCLIP weights by name (mvtec_colondb, visa_clinicdb, all), or path or URI
    (s3://, hf://owner/name/file) of a .pth or .safetensors file; "none" = random weights."""

    max_error_rate: float = 0.05
    """Exit with code 1 if a larger share of the images has ended in an error."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        refuse_credentials(self)
        self._check_input()
        if self.category is not None and not self.category.strip():
            raise ValueError("--category is empty; give a class name such as 'metal nut'")
        if self.category_regex is not None:
            _check_category_regex(self.category_regex)
        self._settle_model()
        self._check_scorer()
        if self.tiles > 1 and backbone_input(self.backbone) is None:
            raise ValueError(
                f"--tiles takes whole patches, and --backbone {self.backbone} tells no patch size; "
                "give a name of open_clip.list_models() or an open_clip JSON file"
            )
        if self.dicom_frames == "all" and find_spec("pydicom") is None:
            raise ValueError(
                "--dicom-frames all reads DICOM files, which takes an extra: "
                'pip install "adaclip-pipeline[dicom]", here and on the nodes of the cluster'
            )
        if not 0 <= self.max_error_rate <= 1:
            raise ValueError("--max-error-rate is a share between 0 and 1, such as 0.05")
        self.modified_since()

    def _check_input(self) -> None:
        if not self.input or not all(self.input):
            raise ValueError("--input needs at least one folder or list, and no empty name")

    def on_this_machine(self) -> Self:
        """The same settings, once what they name was looked for here.

        Raises:
            ValueError: a local file is not there or is another backbone's, or a Ray of this machine
                can't get the released weights.
        """
        for each in self.input:
            check_there("--input", each, names="")
        self.check_weights()
        return self

    def check_weights(self) -> None:
        """Look for the model's weights here, as far as that takes no PyTorch.

        Raises:
            ValueError: as of ``on_this_machine``.
        """
        tag = "an open_clip tag such as openai"
        check_there("--backbone-weights", self.backbone_weights, names=tag)
        released = "released weights (mvtec_colondb, visa_clinicdb, all)"
        check_there("--checkpoint", self.checkpoint, names=released)
        flag = "--checkpoint" if self.model is None else "--model"
        check_fit(flag, self.checkpoint, self.backbone, prompt_length=self.prompt_length)
        if is_local(self.address):
            name = self.checkpoint if self.checkpoint in RELEASED_WEIGHTS else None
            check_released(self.backbone, self.backbone_weights, name)

    def modified_since(self) -> datetime | None:
        """The time that ``since`` means, counted from now if it is a duration.

        Raises:
            ValueError: it is neither a time nor a duration.
        """
        if self.since is None:
            return None
        if found := re.fullmatch(r"(\d{1,5})([hdw])", self.since):
            hours = {"h": 1, "d": 24, "w": 168}[found[2]]
            return datetime.now(UTC) - timedelta(hours=int(found[1]) * hours)
        try:
            time = datetime.fromisoformat(self.since)
        except ValueError:
            raise ValueError(
                f"--since {self.since!r} is neither a date (2026-11-23), a time "
                "(2026-11-23T18:00Z) nor a duration (36h, 2d, 1w)"
            ) from None
        return time if time.tzinfo else time.replace(tzinfo=UTC)

    @property
    def decoder_suffix(self) -> str:
        """What decoding that changes results adds to the model's fingerprint."""
        decoder = "" if self.decoder == "exact" else f"-{self.decoder}-decoder"
        gray = "" if self.gray_range is None else GrayRange(*self.gray_range).suffix
        return decoder + gray + self.tiling.suffix

    @property
    def tiling(self) -> Tiling:
        """Into which tiles images are cut."""
        return WHOLE if self.tiles == 1 else Tiling(self.tiles, self.tile_size or self.image_size)

    @property
    def tile_side(self) -> int:
        """Side of what the model sees at once, in patches; 1 where nothing depends on it."""
        own = backbone_input(self.backbone)
        return 1 if own is None else self.image_size // own.patch_size

    @property
    def model_spec(self) -> ModelSpec:
        """The model that the flags name."""
        return self._spec(self.checkpoint, self.precision)


def _check_category_regex(expression: str) -> None:
    try:
        groups = re.compile(expression).groupindex
    except re.error as error:
        raise ValueError(f"--category-regex is not a regular expression: {error}") from None
    if "category" not in groups:
        raise ValueError("--category-regex needs a group (?P<category>...)")
