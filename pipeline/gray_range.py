"""One mapping of deep pixels to 8 bits for a whole run, which is part of its model's name."""

from __future__ import annotations

import re
from typing import NamedTuple, Self

_NUMBER = r"-?[\d.]+(?:e[+-]?\d+)?"
_SUFFIX = re.compile(rf"-gray({_NUMBER})to({_NUMBER})")


class GrayRange(NamedTuple):
    """Values that become black and white; what lies outside becomes one of the two."""

    low: float
    high: float

    @property
    def suffix(self) -> str:
        """What it adds to the fingerprint of a model."""
        return f"-gray{self.low:.12g}to{self.high:.12g}"

    @classmethod
    def of(cls, fingerprint: str) -> Self | None:
        """The range behind a fingerprint; None if images were taken as they are."""
        found = _SUFFIX.search(fingerprint)
        return None if found is None else cls(float(found[1]), float(found[2]))
