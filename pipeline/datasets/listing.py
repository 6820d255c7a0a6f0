"""The files of a data set, from one listing, and the rows made of them."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from ..storage import absolute, list_objects
from .layouts import EXTENSIONS

Split = Literal["train", "test"]

_log = logging.getLogger(__name__)


class DatasetError(ValueError):
    """A data set that can't be read as it is; the message names the file and the remedy."""


class Row(NamedTuple):
    """One labelled image: the columns of ``LABELLED_SCHEMA``."""

    uri: str
    masks: tuple[str, ...]
    """URIs; the defect is their union. None: empty if the label is 0, unknown if it is 1."""
    label: int
    category: str
    split: Split
    sound_masks: tuple[str, ...] = ()
    """URIs of masks that an image of label 0 has all the same, and that are not used."""

    def as_dict(self) -> dict[str, object]:
        """The row of the table."""
        return {
            "uri": self.uri,
            "mask_uri": self.masks[0] if self.masks else None,
            "more_mask_uris": list(self.masks[1:]) or None,
            "label": self.label,
            "category": self.category,
            "split": self.split,
        }


@dataclass(frozen=True)
class Listing:
    """What lies below a data set's root."""

    root: str
    """Absolute URI."""
    files: dict[str, str]
    """Key below the root → URI."""

    @classmethod
    def of(cls, root: str) -> Listing:
        """List a folder.

        Raises:
            StorageError: the folder can't be listed.
            DatasetError: there is nothing in it.
        """
        root = absolute(root)
        uris = [info.uri for page in list_objects(root) for info in page]
        if not uris:
            raise DatasetError(f"{root}: no files there; check the spelling of the folder")
        return cls(root, {uri.removeprefix(f"{root}/"): uri for uri in sorted(uris)})

    @cached_property
    def images(self) -> dict[str, str]:
        """Path that starts with the root's name → URI, of files with an image's extension."""
        name = self.root.rsplit("/", 1)[-1]
        return {
            f"{name}/{key}": uri
            for key, uri in self.files.items()
            if posixpath.splitext(key)[1].lower() in EXTENSIONS
        }

    @cached_property
    def _stems(self) -> dict[str, str]:
        """Path without extension → URI; in lower case too, where no file is spelled that way."""
        exact = {posixpath.splitext(path)[0]: uri for path, uri in self.images.items()}
        return {stem.lower(): uri for stem, uri in exact.items()} | exact

    def find(self, stem: str) -> str | None:
        """The image of this path but for its extension and, if none is spelled so, its case."""
        return self._stems.get(stem) or self._stems.get(stem.lower())

    def uri(self, key: str, named_by: str) -> str:
        """The URI of a file that another file names.

        Raises:
            DatasetError: there is no such file.
        """
        if key not in self.files:
            raise DatasetError(
                f"{named_by} names {key}, which is not in {self.root}; "
                "fetch the missing file or correct the path"
            )
        return self.files[key]

    def tell_left_out(self, used: Iterable[str], why: str) -> None:
        """Count aloud the images that are neither labelled nor masks.

        Args:
            used: URIs of the others.
            why: they are none.
        """
        known = set(used)
        tell_left_out(self.root, [uri for uri in self.images.values() if uri not in known], why)


def tell_left_out(root: str, uris: Collection[str], why: str) -> None:
    """Warn how many files of a data set are left out, with an example, if there are any."""
    if uris:
        what = f"such as {next(iter(uris))}"
        _log.warning("%s: %d image files are left out, %s: %s", root, len(uris), what, why)
