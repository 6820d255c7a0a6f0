"""The score table as ledger: which images are done, in bounded memory."""

from __future__ import annotations

import binascii
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from pipeline.identity import ModelIdentity
from pipeline.images import max_object_bytes
from pipeline.images.extras import installed, satisfied
from pipeline.schema import FINAL_ERRORS, SCORE_SCHEMA, ErrorCode

from .layout import partition_of, scores_of
from .snapshot import read_scores, score_dataset
from .snapshot import score_files as score_files  # for those who read the table on their own

# Sixteen raw bytes an id. NumPy strips trailing zero bytes, which keeps equal-length ids distinct.
ID_TYPE = np.dtype("S16")
Ids = NDArray[np.bytes_]

# Merging needs twice the memory of what it merges: longer runs (64 MB) stay as they are, and one
# more run to search for every four million ids costs less than the memory would.
LONGEST_RUN = 1 << 22
# Rows that the reader of the ledger holds: Arrow's own defaults, 131,072 rows in each of 16 batches
# of 4 files, would take 400 MB for the ids alone.
BATCH_ROWS, BATCHES_AHEAD, FILES_AHEAD = 1 << 16, 4, 2

# What an id's byte says: twice the place in this tuple, None = a score; one more where no row is of
# the run's own scan date. Of two rows the lower holds, so a score beats an error.
_ENDS = (None, *(code.value for code in FINAL_ERRORS), ErrorCode.TOO_LARGE.value)
_LISTED = 255  # of an id that no row gave: everything else is lower


class _Run(NamedTuple):
    """Sorted ids, as the halves of 128-bit numbers: NumPy compares these 5 times as fast."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    kind: NDArray[np.uint8]

    def position(self, ids: _Run) -> NDArray[np.intp]:
        """Where each of the sorted ids stands, or would be inserted."""
        found = np.searchsorted(self.high, ids.high)
        # Ids are hashes, so hardly ever do two share their first half; then the second decides.
        while True:
            at = np.minimum(found, len(self.high) - 1)
            behind = (found < len(self.high)) & (self.high[at] == ids.high)
            behind &= self.low[at] < ids.low
            if not behind.any():
                return found
            found[behind] += 1

    def find(self, ids: _Run) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        """Which of the sorted ids are here, and where those are."""
        at = np.minimum(self.position(ids), len(self.high) - 1)
        held: NDArray[np.bool_] = (self.high[at] == ids.high) & (self.low[at] == ids.low)
        return held, at[held]

    def merged(self, ids: _Run) -> _Run:
        position = self.position(ids)
        high = np.insert(self.high, position, ids.high)
        low = np.insert(self.low, position, ids.low)
        return _Run(high, low, np.insert(self.kind, position, ids.kind))

    def part(self, chosen: NDArray[np.bool_]) -> _Run:
        return _Run(self.high[chosen], self.low[chosen], self.kind[chosen])


@dataclass
class Before:
    """How listed images had ended that need no further try."""

    errors: Counter[str] = field(default_factory=Counter)
    """By code; the others have a score."""
    of_date: int = 0
    """Those with a row of the run's own scan date: an earlier run of the same night left it."""
    errors_of_date: int = 0

    def add(self, kinds: NDArray[np.uint8]) -> None:
        """Count images, each by the byte that ``IdSet.kinds`` gave."""
        counts = np.bincount(kinds, minlength=_LISTED + 1)[:_LISTED]
        for kind in np.flatnonzero(counts):
            code, count = _ENDS[kind // 2], int(counts[kind])
            of_date = 0 if kind % 2 else count
            self.of_date += of_date
            if code is not None:
                self.errors[code] += count
                self.errors_of_date += of_date


class IdSet:
    """A growing set of 16-byte ids as sorted runs: 17 bytes an id, where a Python set takes 90.

    Adding a batch appends a run; runs of similar length are merged, so there are only few to
    search. Beside each id is a byte, of which the lowest holds that was given with it.
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def __len__(self) -> int:
        return sum(len(run.high) for run in self._runs)

    def add_new(self, ids: Ids, kinds: NDArray[np.uint8] | None = None) -> NDArray[np.bool_]:
        """Add ids [n] and tell which were new: a mask [n], true once for each of those.

        Args:
            ids: what to add.
            kinds: their bytes [n]; equal ids that have equal ones are new where they stand first.
        """
        kinds = np.full(len(ids), _LISTED, np.uint8) if kinds is None else kinds
        batch, order = _sorted(ids, kinds)
        distinct = np.ones(len(ids), dtype=bool)
        distinct[1:] = batch.high[1:] != batch.high[:-1]
        distinct[1:] |= batch.low[1:] != batch.low[:-1]
        order, batch = order[distinct], batch.part(distinct)
        known = np.zeros(len(order), dtype=bool)
        for run in self._runs:
            held, at = run.find(batch)
            run.kind[at] = np.minimum(run.kind[at], batch.kind[held])
            known |= held
        new = np.zeros(len(ids), dtype=bool)
        new[order[~known]] = True
        if not known.all():
            self._append(batch.part(~known))
        return new

    def kinds(self, ids: Ids) -> NDArray[np.uint8]:
        """The bytes [n] of ids [n] that the set holds."""
        batch, order = _sorted(ids, np.full(len(ids), _LISTED, np.uint8))
        for run in self._runs:
            held, at = run.find(batch)
            batch.kind[held] = run.kind[at]
        kinds = np.empty(len(ids), np.uint8)
        kinds[order] = batch.kind
        return kinds

    def _append(self, run: _Run) -> None:
        while self._runs:
            last, length = len(self._runs[-1].high), len(run.high)
            if last > 2 * length or last + length > LONGEST_RUN:
                break
            run = self._runs.pop().merged(run)
        self._runs.append(run)


def _sorted(ids: Ids, kinds: NDArray[np.uint8]) -> tuple[_Run, NDArray[np.intp]]:
    """Ids in order, the lowest byte of equal ones first, and where each was."""
    halves = np.ascontiguousarray(ids).view(">u8").reshape(-1, 2).astype(np.uint64)
    high, low = halves[:, 0], halves[:, 1]
    order = np.lexsort((kinds, low, high))  # stable: the first of equal ids stays first
    return _Run(high[order], low[order], kinds[order]), order


def read_final_ids(
    output: str, identity: ModelIdentity, *, max_megapixels: float, scan_date: str = ""
) -> IdSet:
    """Ids of the images that need no further try under a model and its references.

    Those with a score, with an error that won't pass, or larger than ``max_megapixels`` still; the
    bytes beside them tell ``Before`` which.

    Args:
        output: the output folder; it may be new.
        identity: the run's; rows of other models and other references are not counted.
        max_megapixels: the run's.
        scan_date: the run's, YYYY-MM-DD; "" = none.

    Raises:
        StorageError: the output can't be listed.
        OSError, pa.ArrowException: a score file can't be read; the message names it.
    """
    folder = scores_of(output)

    def read(files: list[str]) -> IdSet:
        done = IdSet()
        own = f"/{partition_of(scan_date)}/"
        for is_other, some in enumerate(
            ([uri for uri in files if own in uri], [uri for uri in files if own not in uri])
        ):
            if some:
                table = score_dataset(folder, some, SCORE_SCHEMA)
                _add(done, table, identity.condition(), max_megapixels, is_other)
        return done

    return read_scores(folder, read)


def _add(
    done: IdSet, table: ds.Dataset, same_model: pc.Expression, max_megapixels: float, is_other: int
) -> None:
    error = pc.field("error").cast(pa.string())
    final = error.is_null() | error.isin([code.value for code in FINAL_ERRORS])
    _add_where(done, table, same_model & final & ~_readable_now(table, same_model), is_other)
    # Sizes are 12 bytes a row that only this error asks for: most ledgers have none of it.
    too_large = same_model & (error == ErrorCode.TOO_LARGE.value)
    if table.head(1, columns=["image_id"], filter=too_large).num_rows:
        _add_where(done, table, too_large & _still_too_large(max_megapixels), is_other)


def _add_where(done: IdSet, table: ds.Dataset, condition: pc.Expression, is_other: int) -> None:
    batches = table.to_batches(
        columns=["image_id", "error"],
        filter=condition,
        batch_size=BATCH_ROWS,
        batch_readahead=BATCHES_AHEAD,
        fragment_readahead=FILES_AHEAD,
    )
    for batch in batches:
        if batch.num_rows:
            place = pc.index_in(batch.column("error").cast(pa.string()), pa.array(_ENDS))
            kinds = 2 * place.to_numpy(zero_copy_only=False).astype(np.uint8) + is_other
            done.add_new(ids_from_hex(batch.column("image_id")), kinds.astype(np.uint8))


def ids_from_hex(column: pa.Array) -> Ids:
    """Hexadecimal ids → [n] of 16 raw bytes.

    Raises:
        ValueError: one of them is not 32 hexadecimal digits.
    """
    if not len(column):
        return np.empty(0, dtype=ID_TYPE)
    column = column.cast(pa.string())
    if not pc.all(pc.fill_null(pc.equal(pc.binary_length(column), 32), False)).as_py():
        raise ValueError("the column image_id holds something else than 32 hexadecimal digits")
    _, offsets, text = column.buffers()
    first = int(np.frombuffer(offsets, dtype=np.int32)[column.offset])
    digits = memoryview(text)[first : first + 32 * len(column)]
    return np.frombuffer(binascii.unhexlify(digits), dtype=ID_TYPE)


def image_ids(uri: pa.Array, etag: pa.Array, identity: ModelIdentity, category: pa.Array) -> Ids:
    """``schema.image_id`` of [n] images at once; a null category or etag counts as ""."""
    model = identity.column(category)
    keys = pc.binary_join_element_wise(
        uri, etag, model, category, "\0", null_handling="replace", null_replacement=""
    )
    digests = [blake2b(key, digest_size=16).digest() for key in keys.cast(pa.binary()).to_pylist()]
    return np.frombuffer(b"".join(digests), dtype=ID_TYPE)


def _readable_now(table: ds.Dataset, same_model: pc.Expression) -> pc.Expression:
    """Rows of images that lacked an extra which is installed here by now."""
    lacking = pc.field("error").cast(pa.string()) == ErrorCode.UNSUPPORTED_MODE.value
    pattern = satisfied(installed())
    # Messages are only read where there are some of this error.
    if pattern is None or not table.head(1, columns=["image_id"], filter=same_model & lacking):
        return pc.scalar(False)
    named = pc.match_substring_regex(pc.field("error_message"), pattern)
    return lacking & pc.if_else(named.is_null(), False, named)


def _still_too_large(max_megapixels: float) -> pc.Expression:
    pixels = pc.field("width").cast(pa.float64()) * pc.field("height").cast(pa.float64())
    return (pixels > max_megapixels * 1e6) | (pc.field("size") > max_object_bytes(max_megapixels))
