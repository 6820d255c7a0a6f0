"""References as jobs make them: of known-good images, or of the bucket that is scored."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.config import BuildReferencesConfig, ScoreConfig
from pipeline.distributed.errors import explained
from pipeline.distributed.fingerprints import fingerprint
from pipeline.errors import CannotRunError
from pipeline.output.lock import OutputLock
from pipeline.output.reference_catalogue import Catalogue, read_catalogue
from pipeline.storage import absolute

from .candidates import choose
from .in_use import auto_uri

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from .sets import Built

AUTO_LEAST = 20  # images that a category needs before the bucket is its own reference
AUTO_MOST = 500


def build_references(config: BuildReferencesConfig) -> Built:
    """Make the reference sets of a job.

    Raises:
        CannotRunError: bad input, output, model or resources; nothing was written.
        StorageError: the output can't be written.
    """
    from .sets import make_sets  # not above: making them takes Ray, which finding them does not

    scoring = config.score_config()
    model = fingerprint(scoring)
    lock = OutputLock(config.output, run_id="references")
    with explained("the output can't be used"):
        earlier = read_catalogue(config.output) or Catalogue(model=model)
        if config.add:
            earlier.check_model(model, config.output)
    with explained("an input can't be listed"):
        found = choose(scoring, config.max_images_per_category)
    if not found:
        raise CannotRunError(f"there is no image below {', '.join(config.input)}")
    for category, candidates in found.items():
        _log.info(f"{category}: {len(candidates.rows):,} of {candidates.num_images:,} images")
    with ExitStack() as held:
        with explained("the output can't be written"):
            held.enter_context(lock)
        return make_sets(
            scoring,
            found,
            Catalogue(model=model, sets=earlier.sets if config.add else {}),
            uri=absolute(config.output),
            unlabelled=config.unlabelled,
            add=config.add,
            check=lock.check,
        )


def auto_references(config: ScoreConfig, model: str, *, check: Callable[[], None]) -> Catalogue:
    """References of the categories that an output's inputs hold, made where there are none yet.

    Args:
        config: of the scoring job.
        model: fingerprint of AdaCLIP and the decoder.
        check: called before each write; raises if this run may not write any more.

    Raises:
        CannotRunError: the output or an input can't be used.
    """
    uri = auto_uri(config)
    with explained("the references of the output can't be used"):
        earlier = read_catalogue(uri)
    if earlier is None or earlier.model != model:
        earlier = Catalogue(model=model)
    with explained("an input can't be listed"):
        found = choose(replace(config, since=None), AUTO_MOST, keep_index=True)
    wanted = {
        name: each
        for name, each in found.items()
        if each.num_images >= AUTO_LEAST and (config.refresh_references or name not in earlier.sets)
    }
    if not wanted:
        return earlier
    from .sets import make_sets

    _log.info(f"making references for {len(wanted):,} categories")
    built = make_sets(config, wanted, earlier, uri=uri, unlabelled=True, add=False, check=check)
    return built.catalogue
