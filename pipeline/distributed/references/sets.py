"""Reference sets for many categories, on Ray: look at the images, write the sets."""

from __future__ import annotations

import hashlib
import logging
import queue
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import ray
from numpy.typing import NDArray

from pipeline.config import ScoreConfig
from pipeline.distributed.cluster import planned
from pipeline.distributed.reader import read_images
from pipeline.distributed.resources import CPUS_PER_READER, Resources
from pipeline.output.reference_catalogue import (
    Catalogue,
    CatalogueEntry,
    finished_entry,
    id_of,
    read_set,
    write_catalogue,
    write_set,
)
from pipeline.redaction import redact
from pipeline.tiling import WHOLE, without_tile

from .builder import ReferenceBuilder
from .candidates import Candidates

_log = logging.getLogger(__name__)

# As pipeline.references.SAMPLE_SIZE, which drivers do not import, because it loads PyTorch.
SAMPLE_SIZE = 64
IMAGES_PER_BLOCK = 32  # 26 MB of pixels at 518 px
MAX_UNUSABLE = 100  # of a category, that the catalogue names


@dataclass
class Built:
    """What became of the categories."""

    catalogue: Catalogue
    made: list[str] = field(default_factory=list)
    """Categories whose set was made now."""
    kept: list[str] = field(default_factory=list)
    """Categories whose set was there already."""
    failed: dict[str, str] = field(default_factory=dict)
    """Categories without references, and why."""
    num_looked_at: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    """Images that can't be read, by error code."""

    def add(self, category: str, outcome: _Outcome) -> None:
        """Note what became of a category."""
        if outcome.entry is None:
            self.failed[category] = outcome.reason
        else:
            (self.made if outcome.is_new else self.kept).append(category)
        self.num_looked_at += outcome.num_looked_at
        self.unusable.update(code for _, code, _ in outcome.unusable)

    @property
    def error_rate(self) -> float:
        """Share of the images that can't be read."""
        return self.unusable.total() / max(self.num_looked_at, 1)


def make_sets(
    config: ScoreConfig,
    found: Mapping[str, Candidates],
    earlier: Catalogue,
    *,
    uri: str,
    unlabelled: bool,
    add: bool,
    check: Callable[[], None],
) -> Built:
    """Make and write the sets of some categories, then the catalogue.

    Args:
        config: which model, on what.
        found: the images.
        earlier: sets that stay in the catalogue, but for those that are made now.
        uri: folder of the catalogue.
        unlabelled: leave out what looks damaged.
        add: merge into the earlier sets.
        check: called before each write; raises if this run may not write any more.

    Raises:
        CannotRunError: the cluster is too small.
        StorageError: the output can't be written.
    """
    built, sets = Built(earlier), dict(earlier.sets)
    resources = planned(config)
    with _builders(config, earlier.model, resources) as builders:
        work = _Work(config, earlier, builders, uri, unlabelled, add)
        # One more than builders: its images are read while the others compute.
        threads = ThreadPoolExecutor(resources.num_actors + 1)
        try:
            waiting = {threads.submit(work.do, name, each): name for name, each in found.items()}
            for number, done in enumerate(as_completed(waiting), 1):
                name = waiting[done]
                outcome = done.result()
                built.add(name, outcome)
                if outcome.entry is not None:
                    sets[name] = outcome.entry
                _log.info(f"{number:,} / {len(found):,} categories · {name}: {outcome}")
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
    check()
    built.catalogue = replace(earlier, sets=dict(sorted(sets.items())))
    write_catalogue(uri, built.catalogue)
    return built


@dataclass(frozen=True)
class _Outcome:
    """What became of one category."""

    entry: CatalogueEntry | None = None
    reason: str = ""
    """Why there is no entry."""
    is_new: bool = False
    num_looked_at: int = 0
    unusable: tuple[tuple[str, str, str], ...] = ()

    def __str__(self) -> str:
        if self.entry is None:
            return f"no references: {self.reason}"
        told = f"{self.entry.num_images:,} references"
        if self.entry.num_looks > 1:
            told += f" of {self.entry.num_looks} looks"
        if self.entry.unlabelled:
            told += f", about {self.entry.abnormal_share:.0%} of the images look damaged"
        return told if self.is_new else f"{told}, made before"


class _Builders:
    """Actors with a model each, any of which does the next piece of work."""

    def __init__(self, actors: list[Any]) -> None:
        self.actors = actors
        self._idle: queue.Queue[Any] = queue.Queue()
        for actor in actors:
            self._idle.put(actor)

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """The result of a method of ``ReferenceBuilder``, once an actor is free.

        Raises:
            Exception: what the method raised.
        """
        actor = self._idle.get()
        try:
            return ray.get(getattr(actor, method).remote(*arguments, **options))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        finally:
            self._idle.put(actor)


@contextmanager
def _builders(config: ScoreConfig, model: str, resources: Resources) -> Iterator[_Builders]:
    actor: Any = ray.remote(num_cpus=resources.claimed_cpus, num_gpus=resources.gpus_per_actor)
    arguments = {
        "fingerprint": model.removesuffix(config.decoder_suffix),
        "gpus": resources.gpus_per_actor,
        "num_threads": resources.cpus_per_actor + 1,  # the readers' CPU is mostly idle
        "batch_size": resources.batch_size,
    }
    actors = [
        actor(ReferenceBuilder).remote(config.model_spec, **arguments)
        for _ in range(resources.num_actors)
    ]
    try:
        yield _Builders(actors)
    finally:
        for each in actors:
            ray.kill(each)


@dataclass(frozen=True)
class _Work:
    """What is the same for all categories."""

    config: ScoreConfig
    earlier: Catalogue
    builders: _Builders
    uri: str
    unlabelled: bool
    add: bool

    def do(self, category: str, candidates: Candidates) -> _Outcome:
        """Make a category's set, unless it was made before."""
        before = self.earlier.sets.get(category) if self.add else None
        rows = _without(candidates.rows, before)
        if not len(rows) and before is not None:
            return _Outcome(before)
        added_to = before.id if before else ""
        set_id = id_of(category, self.earlier.model, _names(rows), self.unlabelled, added_to)
        if finished := finished_entry(self.uri, set_id):
            return _Outcome(finished)
        unusable: list[tuple[str, str, str]] = []
        try:
            return self._make(category, set_id, rows, before, unusable)
        except ValueError as error:
            reason = redact(str(error))
            return _Outcome(None, reason, False, len(rows), tuple(unusable))

    def _make(
        self,
        category: str,
        set_id: str,
        rows: pa.Table,
        before: CatalogueEntry | None,
        unusable: list[tuple[str, str, str]],
    ) -> _Outcome:
        kept = read_set(self.uri, before.id, before.sha256) if before else None
        first, more = self._blocks(rows[:SAMPLE_SIZE]), self._blocks(rows[SAMPLE_SIZE:])
        tiles = max(1, SAMPLE_SIZE // len(rows[:SAMPLE_SIZE]))  # of each image, in the sample
        sample = [self._read(block, tiles, sampled=True) for block in first]
        unusable += [each for block in sample for each in _unusable(ray.get(block))]
        reads = [partial(self._read, block) for block in more]
        if self.config.tiling != WHOLE:
            reads += [partial(self._read, block, tiles, sampled=False) for block in first]
        rest, problems = self._rest(reads, sample, kept)
        unusable += problems
        data, told = self.builders.call(
            *("build", category, self.earlier.model, sample, rest, kept), unlabelled=self.unlabelled
        )
        entry = CatalogueEntry(
            id=set_id,
            sha256=hashlib.sha256(data).hexdigest(),
            left_out=(before.left_out if before else ()) + _left_out(rows, told, unusable),
            unusable=tuple(unusable[:MAX_UNUSABLE]),
            **told,
        )
        write_set(self.uri, entry, data)
        return _Outcome(entry, "", True, len(rows), tuple(unusable))

    def _rest(
        self, reads: Sequence[Callable[[], Any]], sample: list[Any], kept: bytes | None
    ) -> tuple[Any, list[tuple[str, str, str]]]:
        """What is kept of the images beyond the sample, and those that can't be read."""
        if not reads:
            return None, []
        screens = self.builders.call("screens", sample, kept, unlabelled=self.unlabelled)

        def add_up(read: Callable[[], Any]) -> tuple[Any, list[tuple[str, str, str]]]:
            block = read()
            problems = _unusable(rows := ray.get(block))
            if len(problems) == len(rows):
                return None, problems
            part = self.builders.call("add_up", block, screens, unlabelled=self.unlabelled)
            return part, problems

        with ThreadPoolExecutor(len(self.builders.actors)) as threads:
            parts = list(threads.map(add_up, reads))
        total = None
        for part in (each for each, _ in parts if each is not None):
            total = part if total is None else total + part
        return total, [problem for _, problems in parts for problem in problems]

    def _blocks(self, rows: pa.Table) -> list[pa.Table]:
        images = max(1, IMAGES_PER_BLOCK // self.config.tiling.most**2)
        return [rows.slice(i, images) for i in range(0, len(rows), images)]

    def _read(self, rows: pa.Table, tiles: int = 1, *, sampled: bool | None = None) -> Any:
        read: Any = ray.remote(num_cpus=CPUS_PER_READER)(_read_block)
        return read.remote(
            rows,
            tiles,
            sampled,
            image_size=self.config.image_size,
            max_megapixels=self.config.max_megapixels,
            decoder=self.config.decoder,
            gray_range=self.config.gray_range,
            tiling=self.config.tiling,
            side=self.config.tile_side,
        )


def _read_block(rows: pa.Table, tiles: int, sampled: bool | None, **options: Any) -> pa.Table:
    """Pixels of some images: of the tiles in the sample, of those that are not, or of all."""
    read = pa.concat_tables(read_images(rows, **options))
    return read if sampled is None else read.filter(pa.array(_sampled(read, tiles) == sampled))


def _sampled(rows: pa.Table, tiles: int) -> NDArray[np.bool_]:
    """Which rows belong to the sample: so many tiles of each image, by their hash, and errors."""
    names = zip(rows["image_id"].to_pylist(), rows["tile"].to_pylist(), strict=True)
    digests = [hashlib.blake2b(f"{name}".encode(), digest_size=8).hexdigest() for name in names]
    frame = pd.DataFrame({"image": rows["image_id"].to_pylist(), "digest": digests})
    place = frame.sort_values(["image", "digest"]).groupby("image").cumcount().sort_index()
    sampled: NDArray[np.bool_] = (place < tiles).to_numpy() | rows["tile"].is_null().to_numpy()
    return sampled


def _unusable(rows: pa.Table) -> list[tuple[str, str, str]]:
    """URI, error code and message of the images of a block that can't be read."""
    failed = rows.filter(pc.is_valid(rows["error"]))
    columns = [failed[name].to_pylist() for name in ("uri", "error", "error_message")]
    return list(zip(*columns, strict=True))


def _left_out(
    rows: pa.Table, told: Mapping[str, Any], unusable: list[tuple[str, str, str]]
) -> tuple[tuple[str, str], ...]:
    """Images that can be read and do not count."""
    counted, failed = _images(told["images"]), {uri for uri, *_ in unusable}
    return tuple(name for name in _names(rows) if name not in counted and name[0] not in failed)


def _without(rows: pa.Table, before: CatalogueEntry | None) -> pa.Table:
    """Rows of images that were not looked at yet."""
    if before is None:
        return rows
    known = _images(before.images) | {*before.left_out}
    return rows.filter(pa.array([name not in known for name in _names(rows)], pa.bool_()))


def _images(tiles: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """URIs and ETags of the images that tiles, named by the builder, are of."""
    return {(uri, without_tile(version)) for uri, version in tiles}


def _names(rows: pa.Table) -> list[tuple[str, str]]:
    """URIs and ETags."""
    return list(zip(rows["uri"].to_pylist(), rows["etag"].to_pylist(), strict=True))
