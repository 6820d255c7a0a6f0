"""What a run has to do: inputs → objects → rows of the manifest, without those already scored."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.config import ScoreConfig
from pipeline.identity import ModelIdentity
from pipeline.output.ledger import Before, Ids, IdSet, image_ids
from pipeline.schema import MANIFEST_SCHEMA, ErrorCode
from pipeline.storage import absolute, list_objects, write_object
from pipeline.terminal import clean

from .inventory import is_inventory
from .job_files import JobFiles
from .lists import is_list
from .objects import LIST_SUFFIXES, read_input
from .shards import ShardIndex, expanded

ROWS_PER_FILE = 10_000  # 1 MB of manifest; Ray Data cuts a file into blocks in one task
DEFAULT_CATEGORY = "object"  # for a key with no folder below the prefix
MAX_REMARKS = 10
SHOWN, EXAMPLES = 10, 3  # classes before a run, and images of each


@dataclass
class Manifest:
    """The images of a run, as Parquet files beside its results."""

    folder: str
    files: list[str] = field(default_factory=list)
    file_rows: list[int] = field(default_factory=list)
    """How many rows each file has."""
    listed: int = 0
    """Objects that the inputs name and the globs let through, each counted once."""
    excluded: int = 0
    """Objects that the globs or ``since`` leave out."""
    other_outputs: Counter[str] = field(default_factory=Counter)
    """How many files of each output of another run the inputs hold, which are no images."""
    skipped: int = 0
    """Listed objects that the ledger holds already."""
    before: Before = field(default_factory=Before)
    """How those had ended."""
    pending: int = 0
    """Rows of the manifest: listed − skipped."""
    pending_bytes: int = 0
    categories: Counter[str | None] = field(default_factory=Counter)
    """Rows by class name; None = the rule finds none."""
    examples: dict[str | None, list[str]] = field(default_factory=dict)
    """URIs of the first rows of the first classes."""
    by_folder: bool = False
    """Class names are those of folders, unless a list gives them."""

    def remarks(self) -> list[str]:
        """What an input holds that may not be meant."""
        remarks = [
            f"{output} is the output of another job: its {count:,} files are left out"
            for output, count in self.other_outputs.most_common(MAX_REMARKS)
        ]
        if self.by_folder and (count := self.categories[DEFAULT_CATEGORY]):
            remarks.append(
                f"{count:,} images lie in no folder below the prefix, so the model is told that "
                f'they show "{DEFAULT_CATEGORY}"; --category tells it what they show'
            )
        return remarks

    def summary(self) -> list[str]:
        """What is to be scored, for a terminal: classes with counts and examples."""
        lines = []
        for name, uris in sorted(self.examples.items(), key=lambda each: each[0] or ""):
            shown = ", ".join(clean(uri.rsplit("/", 1)[-1], 30) for uri in sorted(uris))
            more = ", ..." if self.categories[name] > len(uris) else ""
            label = "no class name" if name is None else clean(name, 26)
            lines.append(f"  {label:<28}{self.categories[name]:>12,}  {shown}{more}")
        if left := len(self.categories) - len(self.examples):
            count = self.categories.total() - sum(self.categories[name] for name in self.examples)
            lines.append(f"  {f'{left:,} others':<28}{count:>12,}")
        return lines

    def add_pending(self, rows: pa.Table) -> None:
        """Count rows that are to be scored."""
        self.pending += len(rows)
        self.pending_bytes += pc.sum(rows["size"]).as_py() or 0
        for each in pc.value_counts(rows["category"]).to_pylist():
            self.categories[each["values"]] += each["counts"]
        for name in islice(self.categories, SHOWN):
            kept = self.examples.setdefault(name, [])
            if len(kept) < EXAMPLES:
                own = pc.equal(pc.fill_null(rows["category"], ""), name or "")
                kept += rows["uri"].filter(own)[: EXAMPLES - len(kept)].to_pylist()


def holds_anything(config: ScoreConfig) -> bool:
    """Whether there is any object below the inputs; lists count as one without being read.

    Raises:
        StorageError: an input can't be listed.
    """
    for each in map(absolute, config.input):
        if is_list(each) or is_inventory(each) or any(list_objects(each)):
            return True
    return False


def build_manifest(
    config: ScoreConfig,
    identity: ModelIdentity,
    done: IdSet,
    folder: str,
    on_progress: Callable[[Manifest], None] = lambda manifest: None,
) -> Manifest:
    """List the inputs and write the rows that are not done to ``folder``.

    Args:
        config: inputs, globs and the category rule.
        identity: gives each category its model, which is part of every image_id.
        done: the ledger; the new ids are added to it.
        folder: where the Parquet files go.
        on_progress: called after every file's worth of objects.

    Raises:
        StorageError: an input can't be listed, or the folder can't be written.
        ValueError: an input list has no column "uri".
    """
    manifest = Manifest(folder)
    waiting: list[pa.Table] = []
    for rows in pending_images(config, identity, done, manifest, on_progress, keep_index=True):
        waiting.append(rows)
        if sum(map(len, waiting)) >= ROWS_PER_FILE:
            _write(manifest, _ordered(waiting, identity))
            waiting = []
    if waiting:
        _write(manifest, _ordered(waiting, identity))
    return manifest


def pending_images(
    config: ScoreConfig,
    identity: ModelIdentity,
    done: IdSet,
    manifest: Manifest,
    on_progress: Callable[[Manifest], None] = lambda manifest: None,
    *,
    keep_index: bool = False,
) -> Iterator[pa.Table]:
    """The rows of ``build_manifest``, counted in ``manifest`` and written nowhere.

    Args:
        keep_index: of shards that are opened the first time, keep in the output what they hold.

    Raises:
        StorageError: an input can't be listed.
        ValueError: an input list has no column "uri".
    """
    manifest.by_folder = config.category is None and config.category_regex is None
    # Inputs may overlap, and a list may name an object twice: each counts once. One folder names
    # every object once, and needs no such sets.
    alone = len(config.input) == 1 and not config.input[0].lower().endswith(LIST_SUFFIXES)
    seen = None if alone else (IdSet(), IdSet())
    for objects in _in_chunks(_selected(config, manifest, keep_index)):
        category = pa.array(_categories(objects, config), pa.string())
        ids = image_ids(objects["uri"], objects["etag"], identity, category)
        first = np.ones(len(ids), dtype=bool)
        if seen is not None:
            first = seen[0].add_new(ids)
            # Where the folders below two inputs give an object two class names, the first input's
            # holds; of the names that a list gives, each counts.
            first &= seen[1].add_new(
                image_ids(objects["uri"], objects["etag"], ModelIdentity(""), objects["category"])
            )
        new = np.zeros(len(ids), dtype=bool)
        new[first] = done.add_new(ids[first])
        ids = _archived_apart(objects, ids, new, identity, category, done)
        left = np.inf if config.limit is None else config.limit - manifest.pending
        if new.sum() > left:  # what comes after was not looked at: it counts as not listed
            end = np.flatnonzero(new)[int(left)]
            first[end:] = new[end:] = False
        manifest.listed += int(first.sum())
        known = ids[first & ~new]
        manifest.skipped += len(known)
        manifest.before.add(done.kinds(known))
        if new.any():
            mask = pa.array(new)
            rows = _rows(objects.filter(mask), ids[new], category.filter(mask))
            manifest.add_pending(rows)
            yield rows
        on_progress(manifest)
        if manifest.pending == config.limit:
            return


def _archived_apart(
    objects: pa.Table,
    ids: Ids,
    new: NDArray[np.bool_],
    identity: ModelIdentity,
    category: pa.Array,
    done: IdSet,
) -> Ids:
    """The ids [n], of which those of archived objects that were not scored before are others.

    So the row that says "archived" is final while the object stays where it is, and an object that
    was restored has the id of any readable one, which is not done. Takes the done out of ``new``.
    """
    archived = pc.fill_null(pc.equal(objects["error"], ErrorCode.ARCHIVED.value), False)
    apart = new & archived.to_numpy()
    if not apart.any():
        return ids
    etag = pc.binary_join_element_wise(objects["etag"], ErrorCode.ARCHIVED.value, " ")
    ids = np.where(apart, image_ids(objects["uri"], etag, identity, category), ids)
    new[apart] = done.add_new(ids[apart])
    return ids


def _selected(config: ScoreConfig, manifest: Manifest, keep_index: bool) -> Iterator[pa.Table]:
    """Objects of all inputs that globs and ``since`` let through (``inputs.LISTED_SCHEMA``)."""
    since, job_files = config.modified_since(), JobFiles(config.output)
    manifest.other_outputs = job_files.left_out
    index = ShardIndex(config.output, keep=keep_index)
    include, exclude = _matcher(config.include), _matcher(config.exclude)

    def kept(objects: pa.Table, lets_through: Callable[[str], object]) -> pa.Table:
        keys = [key.lower() for key in objects["key"].to_pylist()]
        wanted = pa.array([bool(lets_through(key)) for key in keys], pa.bool_())
        manifest.excluded += len(keys) - (pc.sum(wanted).as_py() or 0)
        return objects.filter(wanted)

    def not_excluded(objects: pa.Table) -> pa.Table:
        return kept(objects, lambda key: not exclude(key)) if exclude else objects

    def included(objects: pa.Table, shard: str = "") -> pa.Table:
        # A glob that means a shard by its own name means all that it holds.
        if not include or (shard and include(shard.lower())):
            return objects
        return kept(objects, include)

    frames = config.dicom_frames == "all"
    try:
        for uri in config.input:
            for objects in read_input(absolute(uri), config.category_column):
                objects = objects.filter(pa.array(~job_files.among(objects)))
                if since is not None:
                    # What could not be looked up has no time, and becomes its error row.
                    recent = pc.fill_null(pc.greater_equal(objects["last_modified"], since), True)
                    manifest.excluded += len(objects) - (pc.sum(recent).as_py() or 0)
                    objects = objects.filter(recent)
                # Before shards are opened: one that is excluded is not read.
                objects = not_excluded(objects)
                for shard, rows in expanded(objects, index, config.category_column, frames=frames):
                    yield included(rows if shard is None else not_excluded(rows), shard or "")
    finally:
        index.singles.save()


def _matcher(globs: tuple[str, ...]) -> Callable[[str], object] | None:
    if not globs:
        return None
    return re.compile("|".join(translate(glob.lower()) for glob in globs)).match


def _in_chunks(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, ``ROWS_PER_FILE`` at a time: the pages of a listing may hold a few each."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        while sum(map(len, waiting)) >= ROWS_PER_FILE:
            rows = pa.concat_tables(waiting)
            yield rows[:ROWS_PER_FILE].combine_chunks()
            waiting = [rows[ROWS_PER_FILE:]]
    if sum(map(len, waiting)):
        yield pa.concat_tables(waiting).combine_chunks()


def _categories(objects: pa.Table, config: ScoreConfig) -> list[str | None]:
    """The class names that the configured rule gives objects, None where it gives none."""
    if config.category is not None:
        return [config.category] * len(objects)
    if config.category_regex is not None:
        search = re.compile(config.category_regex).search
        found = map(search, objects["uri"].to_pylist())
        return [((m["category"] or "").strip() or None) if m else None for m in found]
    level, keys = config.category_level, objects["key"].to_pylist()
    if objects["folder"].null_count == len(objects):
        folders = [key.rpartition("/")[0] for key in keys]
    else:
        pairs = zip(keys, objects["folder"].to_pylist(), strict=True)
        folders = [key.rpartition("/")[0] if own is None else own for key, own in pairs]
    if objects["category"].null_count == len(objects):
        return [_category_of_folder(folder, level) for folder in folders]
    return [
        _category_of_folder(folder, level) if given is None else given.strip() or None
        for folder, given in zip(folders, objects["category"].to_pylist(), strict=True)
    ]


@lru_cache(maxsize=1 << 16)
def _category_of_folder(folder: str, level: int) -> str:
    # "tar -C photos ." calls its members "./bolt/1.jpg"; neither dots nor blanks are a name.
    names = map(str.strip, folder.split("/"))
    folders = [name for name in names if name not in ("", ".", "..")]
    return folders[level] if -len(folders) <= level < len(folders) else DEFAULT_CATEGORY


def _rows(objects: pa.Table, ids: Ids, category: pa.Array) -> pa.Table:
    """Rows of the manifest; what could not be looked up or has no class says so."""
    failed = pc.is_valid(objects["error"])
    unnamed = pc.and_(pc.invert(failed), pc.is_null(category))
    digits = ids.tobytes().hex()
    message = "the category rule finds no class name for this object"
    columns = {
        "image_id": pa.array([digits[i : i + 32] for i in range(0, len(digits), 32)], pa.string()),
        "etag": pc.if_else(pc.equal(objects["etag"], ""), None, objects["etag"]),
        "size": pc.if_else(pc.equal(objects["etag"], ""), None, objects["size"]),
        "category": category,
        "error": pc.if_else(unnamed, ErrorCode.NO_CATEGORY.value, objects["error"]),
        "error_message": pc.if_else(unnamed, message, objects["error_message"]),
    }
    arrays = [columns[f.name] if f.name in columns else objects[f.name] for f in MANIFEST_SCHEMA]
    return pa.table(arrays, schema=MANIFEST_SCHEMA)


def _ordered(waiting: list[pa.Table], identity: ModelIdentity) -> pa.Table:
    """With references, a category's images one after the other: a scorer reads each set once."""
    rows = pa.concat_tables(waiting)
    return rows.sort_by("category") if identity.references else rows


def _write(manifest: Manifest, rows: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    uri = f"{manifest.folder}/part-{len(manifest.files):05d}.parquet"
    write_object(uri, sink.getvalue().to_pybytes())
    manifest.files.append(uri)
    manifest.file_rows.append(len(rows))
