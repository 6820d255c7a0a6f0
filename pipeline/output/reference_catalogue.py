"""A folder of reference sets: ``references.json``, and a file for each category below ``sets/``.

Files are named after the sets' ids, so that any category can be called anything, and so that a set
is never overwritten: who reads an older catalogue finds what it names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline.identity import ModelIdentity
from pipeline.redaction import redacted_json
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, absolute, read_object, write_object

T = TypeVar("T")

NAME = "references.json"
# Part of every set's id: raise it when a change of ``pipeline.references`` changes scores beyond
# rounding.
METHOD_VERSION = 1


class ReferencesError(ValueError):
    """Reference sets that can't be used; the message says why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """The reference set of one category."""

    id: str
    """16 hexadecimal digits; stands in the model of every row that was scored with it."""
    sha256: str
    """Of the file."""
    unlabelled: bool
    """Whether what looked damaged was left out, or all images were known to be good."""
    num_images: int
    num_looks: int
    """Colours, sides, products of the same name: each is a reference of its own."""
    num_looked_at: int
    """Readable images that were looked at; without labels, not all of them count."""
    abnormal_share: float
    """Estimated share of damaged images among them."""
    created: str
    """ISO 8601, UTC."""
    images: tuple[tuple[str, str], ...] = ()
    """URI and ETag of the images that count."""
    left_out: tuple[tuple[str, str], ...] = ()
    """URI and ETag of those that look damaged, which are not looked at again."""
    unusable: tuple[tuple[str, str, str], ...] = ()
    """URI, error code and message of images that can't be read."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What ``references.json`` holds."""

    model: str
    """Fingerprint of AdaCLIP and the decoder; the sets are for no other."""
    sets: Mapping[str, CatalogueEntry] = field(default_factory=dict)
    """By category."""

    def check_model(self, model: str, uri: str) -> None:
        """Refuse to be used with another model.

        Raises:
            ReferencesError: names both.
        """
        if self.sets and model != self.model:
            raise ReferencesError(
                f"{uri} was made for the model {self.model}, this one is {model} (backbone, size, "
                "precision and decoder are part of it): give the settings that the references "
                "were built with, or build them with these settings by jobs/build_references.py"
            )


@dataclass(frozen=True)
class ReferencesInUse:
    """What scorers are told of a catalogue: little, whatever the number of reference images."""

    uri: str = ""
    """Folder of the catalogue; "" if no images are compared."""
    sets: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By category, id and sha256 of the file."""

    @classmethod
    def of(cls, uri: str, catalogue: Catalogue) -> ReferencesInUse:
        """All sets of a catalogue."""
        return cls(uri, {name: (each.id, each.sha256) for name, each in catalogue.sets.items()})

    def identity(self, model: str) -> ModelIdentity:
        """The model of rows that are scored with these sets."""
        return ModelIdentity(model, {name: set_id for name, (set_id, _) in self.sets.items()})


def read_catalogue(uri: str) -> Catalogue | None:
    """The catalogue of a folder of references; None if there is none.

    Raises:
        StorageError: it can't be read.
        ReferencesError: it is damaged, or something else.
    """
    try:
        data, _ = read_object(f"{absolute(uri)}/{NAME}")
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise
        return None
    try:
        found: Catalogue = _adapter(Catalogue).validate_json(data)
        return found
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ReferencesError(f"{uri}/{NAME} is damaged: {where} {first['msg']}") from None


def write_catalogue(uri: str, catalogue: Catalogue) -> None:
    """Replace a folder's catalogue: the moment at which its sets count.

    Raises:
        StorageError: it can't be written.
    """
    document: dict[str, Any] = _adapter(Catalogue).dump_python(catalogue, mode="json")
    write_object(f"{absolute(uri)}/{NAME}", redacted_json(document))


def id_of(
    category: str, model: str, images: Iterable[tuple[str, str]], *way: str | bool | None
) -> str:
    """What tells a reference set from every other: 16 hexadecimal digits.

    It follows from what goes in, so the same images give the same id however the work is cut.

    Args:
        category: its name.
        model: fingerprint of AdaCLIP and the decoder.
        images: URI and ETag of those that are looked at, in any order.
        way: what else makes a difference.
    """
    known = [METHOD_VERSION, category, model, sorted(images), *way]
    return hashlib.blake2b(json.dumps(known).encode(), digest_size=8).hexdigest()


def write_set(uri: str, entry: CatalogueEntry, data: bytes) -> None:
    """Write a set's file, then its entry: where there is an entry, the set is whole.

    Raises:
        StorageError: it can't be written.
    """
    write_object(_file(uri, entry.id, "safetensors"), data)
    document: dict[str, Any] = _adapter(CatalogueEntry).dump_python(entry, mode="json")
    write_object(_file(uri, entry.id, "json"), redacted_json(document))


def finished_entry(uri: str, set_id: str) -> CatalogueEntry | None:
    """The entry of a set that was written before, by a run that may have been killed since.

    Raises:
        StorageError: it can't be read.
    """
    try:
        data, _ = read_object(_file(uri, set_id, "json"))
        found: CatalogueEntry = _adapter(CatalogueEntry).validate_json(data)
        return found
    except ValidationError:
        return None  # damaged: it is made again
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise
        return None


def read_set(uri: str, set_id: str, sha256: str) -> bytes:
    """The bytes of a set's file.

    Raises:
        StorageError: it can't be read.
        ReferencesError: it is not the one that the catalogue names.
    """
    file = _file(uri, set_id, "safetensors")
    data, _ = read_object(file)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ReferencesError(
            f"{file} is damaged, or not the file that {NAME} names; build the references again"
        )
    return data


def _file(uri: str, set_id: str, suffix: str) -> str:
    return f"{absolute(uri)}/sets/{set_id}.{suffix}"


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)
