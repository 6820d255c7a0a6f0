"""The score table as ledger: which images are done, in bounded memory."""

from __future__ import annotations

import binascii

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from .schema import FINAL_ERRORS, SCORE_SCHEMA, ErrorCode
from .storage import StorageError, arrow_filesystem, list_objects

# Sixteen raw bytes an id. NumPy strips trailing zero bytes, which keeps equal-length ids distinct.
ID_TYPE = np.dtype("S16")
Ids = NDArray[np.bytes_]


class IdSet:
    """A growing set of 16-byte ids as sorted runs: 16 bytes an id, where a Python set takes 90.

    Adding a batch appends a run; runs of similar length are merged, so there are only
    logarithmically many to search.
    """

    def __init__(self) -> None:
        self._runs: list[Ids] = []

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def add_new(self, ids: Ids) -> NDArray[np.bool_]:
        """Add ids [n] and tell which were new: a mask [n], true at first occurrences only."""
        unique, first = np.unique(ids, return_index=True)
        known = np.zeros(len(unique), dtype=bool)
        for run in self._runs:
            position = np.searchsorted(run, unique)
            position[position == len(run)] = 0
            known |= run[position] == unique
        new = np.zeros(len(ids), dtype=bool)
        new[first[~known]] = True
        if not known.all():
            self._append(unique[~known])
        return new

    def _append(self, run: Ids) -> None:
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.concatenate([self._runs.pop(), run])
            run.sort(kind="stable")
        self._runs.append(run)


def read_final_ids(output: str, model: str, *, max_megapixels: float) -> IdSet:
    """Ids of the images that need no further try under a model.

    Those with a score, with an error that won't pass, or larger than ``max_megapixels`` still.

    Args:
        output: the output folder; it may be new.
        model: fingerprint; rows of other models are not read.

    Raises:
        StorageError: the output can't be listed.
        OSError, pa.ArrowException: a score file can't be read; the message names it.
    """
    done = IdSet()
    files = _score_files(f"{output}/scores")
    if not files:
        return done
    filesystem, _ = arrow_filesystem(files[0])
    paths = [arrow_filesystem(uri)[1] for uri in files]
    table = ds.dataset(paths, schema=SCORE_SCHEMA, filesystem=filesystem, format="parquet")
    same_model = pc.field("model").cast(pa.string()) == model
    for batch in table.to_batches(columns=["image_id"], filter=same_model & _final(max_megapixels)):
        if batch.num_rows:
            done.add_new(ids_from_hex(batch.column("image_id")))
    return done


def max_object_bytes(max_megapixels: float) -> int:
    """Bytes that no image within the pixel limit needs: 8 a pixel, as for 16-bit RGBA."""
    return int(max_megapixels * 1e6 * 8)


def ids_from_hex(column: pa.Array) -> Ids:
    """Hexadecimal ids → [n] of 16 raw bytes."""
    return np.frombuffer(binascii.unhexlify("".join(column.to_pylist())), dtype=ID_TYPE)


def _score_files(folder: str) -> list[str]:
    """What else lies there, such as folder markers of S3 consoles, is not the ledger's."""
    try:
        uris = [info.uri for page in list_objects(folder) for info in page]
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise
        return []
    return [uri for uri in uris if uri.endswith(".parquet")]


def _final(max_megapixels: float) -> pc.Expression:
    error = pc.field("error").cast(pa.string())
    pixels = pc.field("width").cast(pa.float64()) * pc.field("height").cast(pa.float64())
    still_too_large = (pixels > max_megapixels * 1e6) | (
        pc.field("size") > max_object_bytes(max_megapixels)
    )
    too_large = (error == ErrorCode.TOO_LARGE.value) & still_too_large
    return error.is_null() | error.isin([code.value for code in FINAL_ERRORS]) | too_large
