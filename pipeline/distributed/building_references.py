"""Reference sets for many categories, on Ray: choose images, look at them, write the sets."""

from __future__ import annotations

import hashlib
import queue
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipeline.config import BuildReferencesConfig, ScoreConfig
from pipeline.identity import ModelIdentity
from pipeline.ledger import IdSet
from pipeline.lock import OutputLock, Say
from pipeline.manifest import Manifest, pending_images
from pipeline.redaction import redact
from pipeline.reference_catalogue import (
    Catalogue,
    CatalogueEntry,
    finished_entry,
    id_of,
    read_catalogue,
    read_set,
    write_catalogue,
    write_set,
)
from pipeline.schema import MANIFEST_SCHEMA
from pipeline.storage import absolute

from .errors import CannotRunError, explained
from .fingerprints import fingerprint
from .reader import read_images
from .reference_builder import ReferenceBuilder
from .resources import CPUS_PER_READER, Resources, node_cpus

# As pipeline.references.SAMPLE_SIZE, which drivers do not import, because it loads PyTorch.
SAMPLE_SIZE = 64
IMAGES_PER_BLOCK = 32  # 26 MB of pixels at 518 px
AUTO_LEAST = 20  # images that a category needs before the bucket is its own reference
AUTO_MOST = 500
MAX_UNUSABLE = 100  # of a category, that the catalogue names


@dataclass(frozen=True)
class Candidates:
    """Images of one category that may become references."""

    num_images: int
    """That are listed."""
    rows: pa.Table
    """``schema.MANIFEST_SCHEMA`` of those that are looked at, in the order of their hash."""


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


def build_references(config: BuildReferencesConfig, say: Say = print) -> Built:
    """Make the reference sets of a job. Needs ``ray.init`` before.

    Raises:
        CannotRunError: bad input, output, model or resources; nothing was written.
        StorageError: the output can't be written.
    """
    scoring = config.score_config()
    model = fingerprint(scoring)
    lock = OutputLock(config.output, run_id="references", say=say)
    with explained("the output can't be used"):
        earlier = read_catalogue(config.output) or Catalogue(model=model)
        if config.add:
            earlier.check_model(model, config.output)
    with explained("an input can't be listed"):
        found = choose(scoring, config.max_images_per_category)
    if not found:
        raise CannotRunError(f"there is no image below {', '.join(config.input)}")
    for category, candidates in found.items():
        say(f"{category}: {len(candidates.rows):,} of {candidates.num_images:,} images")
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
            say=say,
        )


def auto_references(
    config: ScoreConfig, model: str, *, check: Callable[[], None], say: Say
) -> Catalogue:
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
        found = choose(replace(config, since=None), AUTO_MOST)
    wanted = {
        name: each
        for name, each in found.items()
        if each.num_images >= AUTO_LEAST and (config.refresh_references or name not in earlier.sets)
    }
    if not wanted:
        return earlier
    say(f"making references for {len(wanted):,} categories")
    built = make_sets(
        config, wanted, earlier, uri=uri, unlabelled=True, add=False, check=check, say=say
    )
    return built.catalogue


def auto_uri(config: ScoreConfig) -> str:
    """Where an output keeps its own references."""
    return f"{absolute(config.output)}/references"


def choose(config: ScoreConfig, most: int) -> dict[str, Candidates]:
    """Images of each category, at most so many: those with the smallest hashes.

    So the choice is repeatable and as random as a hash is, whatever the order of the listing.

    Raises:
        StorageError: an input can't be listed.
        ValueError: an input list can't be used.
    """
    counts: Counter[str] = Counter()
    kept: dict[str, pa.Table] = {}
    # The hash is of URI, version and category, whatever the model.
    listed = pending_images(replace(config, limit=None), ModelIdentity(""), IdSet(), Manifest(""))
    for rows in listed:
        rows = rows.filter(pc.is_null(rows["error"]))
        for category in pc.unique(rows["category"]).to_pylist():
            chosen = rows.filter(pc.equal(rows["category"], category))
            counts[category] += len(chosen)
            before = kept.get(category, MANIFEST_SCHEMA.empty_table())
            both = pa.concat_tables([before, chosen]).sort_by("image_id")
            kept[category] = both.slice(0, most).combine_chunks()
    return {name: Candidates(counts[name], kept[name]) for name in sorted(kept)}


def make_sets(
    config: ScoreConfig,
    found: Mapping[str, Candidates],
    earlier: Catalogue,
    *,
    uri: str,
    unlabelled: bool,
    add: bool,
    check: Callable[[], None],
    say: Say,
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
        say: receives the progress lines.

    Raises:
        CannotRunError: the cluster is too small.
        StorageError: the output can't be written.
    """
    built, sets = Built(earlier), dict(earlier.sets)
    resources = Resources.plan(config, ray.cluster_resources(), node_cpus())
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
                say(f"{number:,} / {len(found):,} categories · {name}: {outcome}")
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
        actor(ReferenceBuilder).remote(config.model_arguments, **arguments)
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
        sample = [self._read(block) for block in _blocks(rows[:SAMPLE_SIZE])]
        unusable += [each for block in sample for each in _unusable(ray.get(block))]
        rest, problems = self._rest(rows[SAMPLE_SIZE:], sample, kept)
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
        self, rows: pa.Table, sample: list[Any], kept: bytes | None
    ) -> tuple[Any, list[tuple[str, str, str]]]:
        """What is kept of the images beyond the sample, and those that can't be read."""
        if not len(rows):
            return None, []
        screens = self.builders.call("screens", sample, kept, unlabelled=self.unlabelled)

        def add_up(block: pa.Table) -> tuple[Any, list[tuple[str, str, str]]]:
            read = self._read(block)
            problems = _unusable(ray.get(read))
            if len(problems) == len(block):
                return None, problems
            part = self.builders.call("add_up", read, screens, unlabelled=self.unlabelled)
            return part, problems

        with ThreadPoolExecutor(len(self.builders.actors)) as threads:
            parts = list(threads.map(add_up, _blocks(rows)))
        total = None
        for part in (each for each, _ in parts if each is not None):
            total = part if total is None else total + part
        return total, [problem for _, problems in parts for problem in problems]

    def _read(self, rows: pa.Table) -> Any:
        read: Any = ray.remote(num_cpus=CPUS_PER_READER)(_read_block)
        return read.remote(
            rows,
            image_size=self.config.image_size,
            max_megapixels=self.config.max_megapixels,
            decoder=self.config.decoder,
        )


def _read_block(rows: pa.Table, **options: Any) -> pa.Table:
    return pa.concat_tables(read_images(rows, **options))


def _blocks(rows: pa.Table) -> list[pa.Table]:
    return [rows.slice(i, IMAGES_PER_BLOCK) for i in range(0, len(rows), IMAGES_PER_BLOCK)]


def _unusable(rows: pa.Table) -> list[tuple[str, str, str]]:
    """URI, error code and message of the images of a block that can't be read."""
    failed = rows.filter(pc.is_valid(rows["error"]))
    columns = [failed[name].to_pylist() for name in ("uri", "error", "error_message")]
    return list(zip(*columns, strict=True))


def _left_out(
    rows: pa.Table, told: Mapping[str, Any], unusable: list[tuple[str, str, str]]
) -> tuple[tuple[str, str], ...]:
    """Images that can be read and do not count."""
    counted, failed = set(told["images"]), {uri for uri, *_ in unusable}
    return tuple(name for name in _names(rows) if name not in counted and name[0] not in failed)


def _without(rows: pa.Table, before: CatalogueEntry | None) -> pa.Table:
    """Rows of images that were not looked at yet."""
    if before is None:
        return rows
    known = {*before.images, *before.left_out}
    return rows.filter(pa.array([name not in known for name in _names(rows)], pa.bool_()))


def _names(rows: pa.Table) -> list[tuple[str, str]]:
    """URIs and ETags."""
    return list(zip(rows["uri"].to_pylist(), rows["etag"].to_pylist(), strict=True))
