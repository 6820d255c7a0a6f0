"""What a run compares images with."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.config import AUTO, ScoreConfig
from pipeline.distributed.errors import explained
from pipeline.output.reference_catalogue import ReferencesError, ReferencesInUse, read_catalogue
from pipeline.storage import absolute


def find_references(
    config: ScoreConfig,
    model: str,
    *,
    check: Callable[[], None] | None = None,
) -> ReferencesInUse:
    """What a run compares images with; with ``--references auto``, made first where it is not yet.

    Args:
        config: the job's settings.
        model: of ``fingerprint``.
        check: called before writing; None = make nothing, take what is there.

    Raises:
        CannotRunError: there are no such references, or they are another model's.
    """
    if config.references is None:
        return ReferencesInUse()
    if config.references == AUTO:
        uri = auto_uri(config)
        if check is not None:
            from .job import auto_references  # not above: making them takes Ray

            catalogue = auto_references(config, model, check=check)
            return ReferencesInUse.of(uri, catalogue)
    else:
        uri = absolute(config.references)
    with explained("--references can't be used"):
        found = read_catalogue(uri)
        if config.references == AUTO:
            same_model = found is not None and found.model == model
            return ReferencesInUse.of(uri, found) if found and same_model else ReferencesInUse(uri)
        if found is None:
            raise ReferencesError(
                f"{uri} holds no references.json; make references with jobs/build_references.py, "
                "or give auto"
            )
        found.check_model(model, uri)
        return ReferencesInUse.of(uri, found)


def auto_uri(config: ScoreConfig) -> str:
    """Where an output keeps its own references."""
    return f"{absolute(config.output)}/references"
