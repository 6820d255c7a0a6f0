"""Where the data sets keep images and masks, as one description a layout.

Patterns see the paths of images with the root's own name in front: ``hazelnut/test/good/00.png`` if
the root is ``.../hazelnut``. So a root may hold categories, or be one. Categories are named as in
AdaCLIP's released code (data_preprocess/*.py), underscores included: its weights were trained and
the paper's tables made with these names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum

from PIL import Image

from ..images import FORMATS

EXTENSIONS = frozenset(
    extension for extension, name in Image.registered_extensions().items() if name in FORMATS
)
"""Of images, with the dot, in lower case; all other files are passed over."""

_FILE = r"(?P<name>[^/]+)\.[^./]+"
_ROOT_OR_CATEGORY = r"(?P<folder>(?:[^/]+/)?(?P<category>[^/]+))"

# Letters and digits only, in lower case.
GOOD = frozenset(
    (
        *("good", "normal", "ok", "no", "pass", "passed", "sound"),
        *("defectfree", "nodefect", "nondefective"),
    )
)
"""What folders of images without defects are called. What lies beside one names a defect."""
BAD = frozenset(
    (
        *("bad", "defect", "defects", "defective", "ng", "ko", "notok", "yes"),
        *("abnormal", "anomaly", "anomalous", "fail", "failed"),
    )
)
"""Folder names that say no more than that there is a defect."""


class Masks(Enum):
    """What a layout's masks say."""

    REQUIRED = "every abnormal image has one"
    OPTIONAL = "abnormal images may have one, or several"
    NONE = "there are none"
    DECIDE_BY_EXISTENCE = "an image with a mask is abnormal"
    DECIDE_BY_CONTENT = "all images have one; where it is not black, the image is abnormal"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the images of a data set are recognised in its listing."""

    expects: str
    """The folders, for error messages."""
    image: str
    """Pattern of image paths. Groups: ``defect`` (none: all are abnormal), ``split`` (none: all
    are test), ``category``, and whatever ``mask_paths`` refers to. ``pipeline.datasets.folders``
    only recognises its layouts by it."""
    masks: Masks
    mask_paths: tuple[str, ...] = ()
    """Where to look for a mask: paths without extension, filled with the groups of ``image``."""
    category: str | None = None
    """Class name, for layouts whose folders don't give one."""
    sign: str = ""
    """Pattern, in this case, found in some path, where ``image`` alone fits other data sets."""

    @property
    def pattern(self) -> re.Pattern[str]:
        """``image``, compiled."""
        return re.compile(self.image, re.IGNORECASE)


_MVTEC = Layout(
    expects="<category>/train/good, <category>/test/<good or defect>, and masks in "
    "<category>/ground_truth/<defect>/<name>_mask.png (BTAD: ok, ko, and <name>.png or .bmp; "
    "several of one image: in a folder <name>)",
    image=rf"{_ROOT_OR_CATEGORY}/(?P<split>train|test)/(?P<defect>[^/]+)/.+",
    masks=Masks.REQUIRED,
    sign=r"/(?:train|test)/(?:good|ok)/",  # ok is BTAD's word
)
_POLYP_MASKS = ("masks", "Ground Truth", "Ground_Truth", "Ground-Truth")
_POLYPS = Layout(
    expects="images/<name> with masks/<name>, or Original/<name> with Ground Truth/<name>",
    image=rf"(?P<folder>[^/]+)/(?:images|Original)/{_FILE}",
    masks=Masks.REQUIRED,
    mask_paths=tuple(f"{{folder}}/{name}/{{name}}" for name in _POLYP_MASKS),
)
_YES_OR_NO = "yes/<name> (with a tumour) and no/<name>"

FOLDER_LAYOUTS: dict[str, Layout] = {
    "mvtec": _MVTEC,
    "mpdd": _MVTEC,
    "dtd-synthetic": _MVTEC,
    "btad": _MVTEC,
    # Without split_csv/1cls.csv (pipeline.datasets.tables); image_anno.csv says no more.
    "visa": Layout(
        expects="<object>/Data/Images/Normal, <object>/Data/Images/Anomaly, and masks in "
        "<object>/Data/Masks/Anomaly; the split from split_csv/1cls.csv if it is there",
        image=rf"{_ROOT_OR_CATEGORY}/Data/Images/(?P<defect>Normal|Anomaly)/{_FILE}",
        masks=Masks.REQUIRED,
        mask_paths=("{folder}/Data/Masks/{defect}/{name}",),
    ),
    "ksdd": Layout(
        expects="kos<number>/Part<number>.jpg with kos<number>/Part<number>_label.bmp",
        image=r"(?P<folder>[^/]+/kos\d+)/(?P<name>Part\d+)\.jpe?g",
        masks=Masks.DECIDE_BY_CONTENT,
        mask_paths=("{folder}/{name}_label",),
        category="SDD",
    ),
    "dagm": Layout(
        expects="Class<number>/Train/<name>.PNG and Class<number>/Test/<name>.PNG, and masks in "
        "Label/<name>_label.PNG beside them",
        image=r"(?P<folder>(?:[^/]+/)?(?P<category>Class\d+)/(?P<split>Train|Test))"
        r"/(?P<name>\d+)\.png",
        masks=Masks.DECIDE_BY_EXISTENCE,
        mask_paths=("{folder}/Label/{name}_label",),
    ),
    # Told apart by the root's name, or by how the owners name their files: Y1.jpg and y1.jpg.
    "brainmri": Layout(
        expects=_YES_OR_NO,
        image=rf"[^/]+/(?P<defect>yes|no)/{_FILE}",
        masks=Masks.NONE,
        category="brain_mri",
        sign=r"^(?i:brain)[^/]*/|/yes/Y\d+\.",
    ),
    "br35h": Layout(
        expects=_YES_OR_NO,
        image=rf"[^/]+/(?P<defect>yes|no)/{_FILE}",
        masks=Masks.NONE,
        category="br35h",
        sign=r"^(?i:br35h)[^/]*/|/yes/y\d+\.",
    ),
    "isic": Layout(
        expects="<challenge>_Test_Data/ISIC_<number>.jpg with "
        "<challenge>_Test_GroundTruth/ISIC_<number>_Segmentation.png (ISBI 2016 and 2017, part 1)",
        image=r"(?P<folder>[^/]+/[^/]*(?P<split>train|test|valid)[^/]*)_Data"
        r"/(?P<name>ISIC_\d+)\.jpe?g",
        masks=Masks.REQUIRED,
        mask_paths=(
            "{folder}_GroundTruth/{name}_segmentation",
            "{folder}_Part1_GroundTruth/{name}_segmentation",
        ),
        category="isic",
    ),
    # The folders are the same; only the root's name tells the two apart.
    "clinicdb": replace(_POLYPS, category="ClinicDB", sign=r"^[^/]*(?i:clinic)[^/]*/"),
    "colondb": replace(_POLYPS, category="ColonDB", sign=r"^[^/]*(?i:colon)[^/]*/"),
    "tn3k": Layout(
        expects="test-image/<name> with test-mask/<name>, and the same with trainval",
        image=rf"(?P<folder>[^/]+/(?P<split>test|trainval))-image/{_FILE}",
        masks=Masks.REQUIRED,
        mask_paths=("{folder}-mask/{name}",),
        category="tn3k",
    ),
    "folder": Layout(
        expects="[<category>/]<good, normal or ok>, [<category>/]<defect>, and masks, if there are "
        "any, in [<category>/]<masks or ground_truth>/<defect>/<name>.png or <name>_mask.png",
        image=r"[^/]+/.+",
        masks=Masks.OPTIONAL,
        sign=r"(?i:/(?:good|normal|ok)/)",
    ),
}
