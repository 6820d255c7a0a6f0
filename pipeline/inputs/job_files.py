"""Files that jobs wrote below an input: outputs of this run and of others, which are no images."""

from __future__ import annotations

import json
import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.output.layout import MAPS, PARTITION, RUNS, SCORES, SHARD_INDEX, partition_of
from pipeline.output.lock import LOCK_NAME
from pipeline.storage import StorageError, absolute, read_object

# What jobs write below an output, by names that images don't have: an output may be an input as
# well, and folders of images may be called "plots" or "sets".
_WRITTEN = (
    rf"^(?:(?:{SCORES}|{MAPS}|labels)/.*\.(?:parquet|json)"
    rf"|{RUNS}/[^/]+/.*\.(?:json|html|parquet)"
    rf"|{SHARD_INDEX}/[0-9a-f]{{32}}\.parquet"
    r"|(?:references|sets|nightly|protocols)/.*\.(?:json|safetensors|parquet|csv|md)"
    r"|plots/\d\d-.*-(?:curves|histograms|bars)\.(?:png|svg)"
    r"|[^/]+\.(?:json|csv|md|parquet|html))$"
)

# Names that only jobs give. They tell an output whatever a listing gives first, and without a lock.
_MARKS = (f"/{partition_of('')}", f"/{RUNS}/", f"/{LOCK_NAME}")
_OWN_NAME = re.compile(
    rf"(?P<output>.+)/(?:(?:{SCORES}|{MAPS})/{PARTITION}/[^/]+\.parquet"
    rf"|{RUNS}/\d{{8}}T\d{{6}}Z-[0-9a-f]{{6}}/.+"
    rf"|(?P<lock>{re.escape(LOCK_NAME)}))"
)


class JobFiles:
    """Tells objects of outputs apart, of all that it has seen so far."""

    def __init__(self, output: str) -> None:
        """Begin with the run's own output, which may lie below the input."""
        self._own = absolute(output)
        self._outputs = {self._own}
        self._no_outputs: set[str] = set()
        self.left_out: Counter[str] = Counter()
        """How many objects of each other output were met."""

    def among(self, objects: pa.Table) -> NDArray[np.bool_]:
        """Which of some listed objects [n], by their ``uri``, jobs wrote."""
        uris = objects["uri"]
        found = np.zeros(len(objects), dtype=bool)
        if not len(objects):
            return found
        self._learn(uris)
        for output in self._outputs:
            inside = pc.starts_with(uris, f"{output}/")
            if not pc.any(inside).as_py():
                continue
            below = pc.utf8_slice_codeunits(uris, len(output) + 1)
            written = pc.match_substring_regex(below, _WRITTEN)
            mine = pc.and_(inside, written).to_numpy(zero_copy_only=False)
            if output != self._own:
                self.left_out[output] += int((mine & ~found).sum())
            found |= mine
        return found

    def _learn(self, uris: pa.ChunkedArray) -> None:
        """Remember the outputs that some names tell of."""
        marked = pc.match_substring(uris, _MARKS[0])
        for mark in _MARKS[1:]:
            marked = pc.or_(marked, pc.match_substring(uris, mark))
        for uri in uris.filter(marked).to_pylist():
            if not (named := _OWN_NAME.fullmatch(uri)):
                continue
            output = named["output"]
            if output in self._outputs or output in self._no_outputs:
                continue
            known = not named["lock"] or _is_lock_of_a_job(uri)
            (self._outputs if known else self._no_outputs).add(output)


def _is_lock_of_a_job(uri: str) -> bool:
    try:
        owner = json.loads(read_object(uri)[0])
    except (StorageError, ValueError):  # it becomes a row that says why it is no image
        return False
    return isinstance(owner, dict) and {"run_id", "token"} <= owner.keys()
