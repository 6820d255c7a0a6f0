"""The fingerprint of a run's model, without loading the model if it was loaded before.

A run needs the name before anything else: ids follow from it. Loading a model only to learn its
name takes longer than all else that a night over an unchanged bucket does, so names are kept on the
driver's disk, below ``$XDG_CACHE_HOME/adaclip-pipeline/fingerprints/``.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from pipeline.config import NONE, ModelSpec, ScoreConfig
from pipeline.local_cache import cache_folder
from pipeline.provenance import versions
from pipeline.storage import StorageError, absolute, stat, write_object

from .loading import load_model

NAMED = ("backbone", "backbone_weights", "checkpoint")  # settings that name files, or may
CODE = Path(__file__).parents[1] / "models"


def fingerprint(config: ScoreConfig) -> str:
    """What the rows carry as their model: its own fingerprint, and the decoder if it is not exact.

    A model that this machine has not met is loaded once in a CPU task: this validates it, and its
    memory leaves with the task.

    Raises:
        CannotRunError: there is no such model.
    """
    kept = _kept(config.model_spec)
    if kept is not None:
        with suppress(OSError):  # not there, or gone since
            return f"{kept.read_text()}{config.decoder_suffix}"
    from .cluster import in_a_task  # not above: it imports Ray

    found = in_a_task(config.address, _load_and_fingerprint, config.model_spec)
    if kept is not None and kept == _kept(config.model_spec):  # no file changed meanwhile
        with suppress(StorageError):  # a home that can't be written to is no reason to end
            write_object(str(kept), found.encode())
    return f"{found}{config.decoder_suffix}"


def forget(config: ScoreConfig) -> None:
    """Load the model again next time: what has its arguments may have become another."""
    kept = _kept(config.model_spec)
    if kept is not None:
        with suppress(OSError):
            kept.unlink(missing_ok=True)


def _load_and_fingerprint(model: ModelSpec) -> str:
    return load_model(model).fingerprint()


def _kept(model: ModelSpec) -> Path | None:
    """The file of a model's fingerprint, named after all that it follows from.

    That is its settings, the files that they name, the packages, and our code; None if a file
    can't be seen from here, or may change unseen.
    """
    try:
        files = [_version(each) for name in NAMED if (each := getattr(model, name)) != NONE]
    except (OSError, StorageError):
        return None  # whoever loads it tells what is wrong
    code = [_digest(path) for path in sorted(CODE.glob("*.py"))]
    known = json.dumps([asdict(model), files, versions(), code], sort_keys=True)
    return cache_folder("fingerprints") / hashlib.sha256(known.encode()).hexdigest()


def _version(value: str) -> str:
    """Content of a local file, version of an object, or the name itself of what is released.

    Raises:
        OSError: a file can't be read, or a branch of the Hugging Face Hub may move on.
        StorageError: an object can't be reached.
    """
    if value.startswith("hf://"):
        raise OSError(f"{value} may be replaced without its name or this machine telling")
    if "://" in value and not value.startswith("file://"):
        return stat(absolute(value)).etag
    path = Path(value.removeprefix("file://"))
    return _digest(path) if path.suffix or path.exists() else value


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
