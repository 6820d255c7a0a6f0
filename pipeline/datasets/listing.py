"""The files of a data set, from one listing, and the rows made of them."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from ..storage import absolute, list_objects
from .layouts import EXTENSIONS

Split = Literal["train", "test"]


class DatasetError(ValueError):
    """A data set that can't be read as it is; the message names the file and the remedy."""


class Row(NamedTuple):
    """One labelled image: the columns of ``LABELLED_SCHEMA``."""

    uri: str
    mask_uri: str | None
    label: int
    category: str
    split: Split


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
