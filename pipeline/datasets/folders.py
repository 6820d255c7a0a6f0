"""Folders that say what is good: MVTec AD's layout, and the generic one.

Of the folders above an image, one says "good" or names a defect. Folders below it are only
subdivisions (cameras, dates), and one folder above it may name the category. Masks lie in folders
of their own, or beside the images as ``<name>_mask``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .layouts import BAD, GOOD, Layout, Masks
from .listing import DatasetError, Listing, Row, Split, tell_left_out

_SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "val", "valid", "validation"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_MASK_FOLDERS = frozenset(
    (
        *("mask", "masks", "gt", "groundtruth", "groundtruths"),
        *("annotation", "annotations", "seg", "segmentation"),
    )
)
_UNLABELLED = frozenset(("unknown", "unlabeled", "unlabelled", "unsorted"))
_COLOURS = "rgb"  # MVTec 3D-AD: beside xyz, which holds no pictures
_IMAGE_FOLDERS = frozenset((_COLOURS, "image", "images", "img"))
_MASK_NAME = re.compile(
    r"(.+?)[ _.-]+(?:mask|gt|ground[ _-]?truth|seg|segmentation|annotation|label)s?[ _-]*\d*", re.I
)
# A picture may be called so itself ("bottle_label"): a mask only beside the image it names.
_MAY_BE_AN_IMAGE = re.compile(r".*(?:label|annotation)s?[ _-]*\d*", re.I)


def word(folder: str) -> str:
    """A folder's name for comparing: letters and digits only, in lower case."""
    return "".join(filter(str.isalnum, folder.lower()))


@dataclass(frozen=True)
class _File:
    """An image file, taken apart."""

    uri: str
    folders: tuple[str, ...]
    """Below the root, without those that name a split, images or masks."""
    split: Split | None
    stem: str
    is_mask: bool

    def key(self, folders: Iterable[str], split: Split | None, stem: str) -> str:
        """What an image has in common with its mask."""
        return "/".join([split or "", *folders, stem])


def read_folders(layout: Layout, listing: Listing) -> list[Row]:
    """Rows of a data set whose folders say what is good.

    Raises:
        DatasetError: no image, folders that contradict each other, a mask of two images, or one
            that is missing where the layout requires it; the message names a file.
    """
    files = _files(listing)
    masks = _MaskIndex(file for file in files if file.is_mask)
    images = [file for file in files if not file.is_mask]
    if layout.masks is Masks.REQUIRED:
        images = [file for file in images if file.split]
    depth = _depth(images, listing, layout)
    rows = []
    for image in images:
        if len(image.folders) <= depth or word(image.folders[depth]) in _UNLABELLED:
            continue
        good = _is_good(image, depth)
        found = masks.of(image, depth, good)
        if not (good or found) and layout.masks is Masks.REQUIRED:
            raise DatasetError(_no_mask(image, depth, listing.root))
        category = image.folders[0] if depth else _name(listing.root)
        used, unused = ((), found) if good else (found, ())
        rows.append(Row(image.uri, used, int(not good), category, image.split or "test", unused))
    known = [*(row.uri for row in rows), *(file.uri for file in files if file.is_mask)]
    listing.tell_left_out(known, f"the layout is {layout.expects}")
    tell_left_out(listing.root, masks.unused(), "masks that belong to no image")
    return rows


def _files(listing: Listing) -> list[_File]:
    stems = {posixpath.splitext(path)[0] for path in listing.images}
    with_colours = {
        path[: match.start()].lower()
        for path in listing.images
        if (match := re.search(rf"/{_COLOURS}/", path, re.IGNORECASE))
    }
    files = (_taken_apart(path, uri, stems) for path, uri in listing.images.items())
    return [
        file
        for (path, _), file in zip(listing.images.items(), files, strict=True)
        if file.is_mask or not _beside_colours(path, with_colours)
    ]


def _beside_colours(path: str, with_colours: set[str]) -> bool:
    """Whether a picture lies in another folder beside one that is called rgb."""
    *folders, _ = path.lower().split("/")
    return any(
        "/".join(folders[:i]) in with_colours and folder != _COLOURS
        for i, folder in enumerate(folders)
    )


def _taken_apart(path: str, uri: str, stems: set[str]) -> _File:
    """A file's folders below the root.

    Args:
        stems: of all files; ``<name>_mask`` is a mask where they hold ``<name>``.

    Raises:
        DatasetError: it is called a mask, and lies neither among masks nor beside its image.
    """
    _, *folders, name = posixpath.splitext(path)[0].split("/")
    split = next((_SPLITS[word(each)] for each in folders if word(each) in _SPLITS), None)
    is_mask = any(word(each) in _MASK_FOLDERS for each in folders)
    if not is_mask and (match := _MASK_NAME.fullmatch(name)):
        is_mask = f"{path.rpartition('/')[0]}/{match[1]}" in stems
        if not is_mask and not _MAY_BE_AN_IMAGE.fullmatch(name):
            raise DatasetError(
                f"{uri} is called a mask, and beside it is no image {match[1]}.*; put the masks "
                "into a folder ground_truth, or give a list (.csv) of the images"
            )
    silent = _SPLITS.keys() | _MASK_FOLDERS | _IMAGE_FOLDERS
    kept = tuple(folder for folder in folders if word(folder) not in silent)
    return _File(uri, kept, split, name, is_mask)


def _depth(images: list[_File], listing: Listing, layout: Layout) -> int:
    """Which of the folders says what is good: 0, or 1 below one that names the category.

    Raises:
        DatasetError: none does, or not the same everywhere, or one further down.
    """
    found: dict[int, _File] = {}
    for words in (GOOD, BAD):
        for image in images:
            at = next((i for i, each in enumerate(image.folders) if word(each) in words), None)
            if at is not None and (words is GOOD or not found):
                found.setdefault(at, image)
        if found:
            break
    if not found:
        raise DatasetError(f"{listing.root}: no image there; expected {layout.expects}")
    depth, *others = found
    if others:
        raise DatasetError(
            f"{found[depth].uri} and {found[others[0]].uri} lie at different depths below folders "
            "that say what is good; give each such folder as a data set of its own, or a list "
            "(.csv) of the images"
        )
    if depth > 1:
        raise DatasetError(
            f"{found[depth].uri}: {depth} folders stand above {found[depth].folders[depth]!r}, and "
            "one of them names the category; give the folders below the first as data sets of "
            "their own, or a list (.csv) of the images"
        )
    return depth


def _is_good(image: _File, depth: int) -> bool:
    """What the image's folders say.

    Raises:
        DatasetError: another folder says the opposite.
    """
    words = [word(folder) for folder in image.folders]
    good = words.pop(depth) in GOOD
    if opposite := (BAD if good else GOOD).intersection(words):
        raise DatasetError(
            f"{image.uri}: the folder {image.folders[depth]!r} and {min(opposite)!r} contradict "
            "each other; rename one of them, or give a list (.csv) of the images"
        )
    return good


def _name(root: str) -> str:
    """The category of a root whose own folders are good and defects; none is called "test"."""
    names = [part for part in root.split("/")[2:] if part]
    return next((name for name in reversed(names) if word(name) not in _SPLITS), names[-1])


def _no_mask(image: _File, depth: int, root: str) -> str:
    before, after = image.folders[:depth], image.folders[depth:]
    stem = "/".join([*before, "ground_truth", *after, image.stem])
    return (
        f"{image.uri} has no mask; looked in {root} for {stem}_mask.* or {stem}.* or a folder "
        f"{stem}. Fetch it, or give a list (.csv) of the images, where masks are optional"
    )


class _MaskIndex:
    """Masks by what their paths have in common with those of images."""

    def __init__(self, masks: Iterable[_File]) -> None:
        self._by_key: dict[str, tuple[str, ...]] = {}
        self._owners: dict[str, str] = {}
        self._unused: dict[str, None] = {}
        for mask in masks:
            self._unused[mask.uri] = None
            for key in _keys_of_mask(mask):
                self._by_key[key] = (*self._by_key.get(key, ()), mask.uri)
        # A name that is spelled in another case, where none is spelled so.
        for key in list(self._by_key):
            self._by_key.setdefault(key.lower(), self._by_key[key])

    def of(self, image: _File, depth: int, good: bool) -> tuple[str, ...]:
        """An image's masks.

        Raises:
            DatasetError: one of them is another abnormal image's, too.
        """
        keys = [k for key in _keys_of_image(image, depth, good) for k in (key, key.lower())]
        found = next((self._by_key[key] for key in keys if key in self._by_key), ())
        for mask in found:
            self._unused.pop(mask, None)
            owner = self._owners.setdefault(mask, image.uri) if not good else image.uri
            if owner != image.uri:
                raise DatasetError(
                    f"the mask {mask} fits {owner} and {image.uri}; put the masks into folders "
                    "called as the images' are, or give a list (.csv) with mask_uri"
                )
        return found

    def unused(self) -> list[str]:
        """Masks of no image."""
        return list(self._unused)


def _keys_of_mask(mask: _File) -> Iterator[str]:
    stems = {mask.stem}
    if match := _MASK_NAME.fullmatch(mask.stem):
        stems.add(match[1])
    for stem in stems:
        yield mask.key(mask.folders, mask.split, stem)
    if mask.folders:  # several masks of an image lie in a folder that is called as the image
        yield mask.key(mask.folders[:-1], mask.split, mask.folders[-1])


def _keys_of_image(image: _File, depth: int, good: bool) -> Iterator[str]:
    """Where masks may lie: below the split or beside it, below the defect's name or without it."""
    without_label = image.folders[:depth] + image.folders[depth + 1 :]
    for folders in (image.folders,) if good else (image.folders, without_label):
        for split in dict.fromkeys((image.split, None)):
            yield image.key(folders, split, image.stem)
