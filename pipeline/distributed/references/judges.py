"""The references of many categories in a scorer: read when met, kept while they fit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import torch

from pipeline.output.reference_catalogue import ReferencesError, ReferencesInUse, read_set
from pipeline.references import Judge, ReferenceSet

# About 150 categories at width 1,024. One more is read when it is met, which takes a third of a
# second on a CPU, where an image takes many.
MAX_BYTES = 2 * 2**30


class Judges:
    """A bounded number of ``Judge``, the ones used last."""

    def __init__(self, references: ReferencesInUse, max_bytes: int = MAX_BYTES) -> None:
        self._references, self._max_bytes = references, max_bytes
        self._ready: OrderedDict[str, Judge] = OrderedDict()
        self.num_loads = 0
        """How often a set was read."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that they take."""
        return sum(judge.nbytes for judge in self._ready.values())

    def of(self, categories: Iterable[str], device: torch.device) -> dict[str, Judge]:
        """Those of some categories; categories without references are left out.

        Raises:
            StorageError: a set can't be read.
            ReferencesError: a set is damaged.
        """
        names = [name for name in dict.fromkeys(categories) if name in self._references.sets]
        return {name: self._get(name, device) for name in names}

    def _get(self, category: str, device: torch.device) -> Judge:
        if category not in self._ready:
            self._ready[category] = self._load(category, device)
            while len(self._ready) > 1 and self.nbytes > self._max_bytes:
                self._ready.popitem(last=False)
        self._ready.move_to_end(category)
        return self._ready[category]

    def _load(self, category: str, device: torch.device) -> Judge:
        set_id, sha256 = self._references.sets[category]
        self.num_loads += 1
        try:
            data = read_set(self._references.uri, set_id, sha256)
            return Judge(ReferenceSet.from_bytes(data), device)
        except ValueError as error:
            message = f"the references of {category!r} in {self._references.uri}: {error}"
            raise ReferencesError(message) from error
