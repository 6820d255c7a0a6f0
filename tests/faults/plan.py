"""What goes wrong at the storage, by seed alone: the same seed gives the same faults.

Requests arrive in any order, so a fault hangs on the request (method and key) and on how often it
was made, never on the clock or on what else is under way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

# Longer bursts than botocore's five attempts (storage._s3_client) fail the request for good.
MAX_BURST = 6
_RUN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")  # random, so not part of a request's identity


class Fault(StrEnum):
    """A kind of fault; the value is its name in the soak's table."""

    SLOW_DOWN = "503 SlowDown"
    RESET = "connection reset"
    CUT = "body cut short"
    DELAY = "delay"
    PUT_LOST = "PUT fails before it is applied"
    PUT_UNACKNOWLEDGED = "PUT fails after it is applied"
    EXPIRED = "credentials expired"
    DELETED = "object deleted after listing"
    REPLACED = "object replaced after listing"
    GROWN = "object grown after listing"
    DRIVER_KILLED = "driver killed"
    SCORER_KILLED = "scorer killed"
    READER_KILLED = "reader killed"
    NODE_KILLED = "node killed"
    DISK_FULL = "disk full on spill"
    OUT_OF_MEMORY = "killed for memory"


READ_FAULTS = (Fault.SLOW_DOWN, Fault.RESET, Fault.CUT, Fault.DELAY)
WRITE_FAULTS = (Fault.SLOW_DOWN, Fault.RESET, Fault.PUT_LOST, Fault.PUT_UNACKNOWLEDGED, Fault.DELAY)
CHANGES = (Fault.DELETED, Fault.REPLACED, Fault.GROWN)


@dataclass(frozen=True)
class Plan:
    """Faults of one run."""

    seed: int = 0
    read_rate: float = 0.0
    """Share of the GET and HEAD requests (by key) that meet a burst of faults."""
    write_rate: float = 0.0
    """Share of the PUT, POST and DELETE requests."""
    expire_after: int | None = None
    """Requests answered before the credentials expire, for good."""
    changes: Mapping[str, Fault] = field(default_factory=dict)
    """Objects, by key, that change when they are first fetched."""

    def fault(self, method: str, target: str, attempt: int) -> Fault | None:
        """What happens to a request.

        Args:
            target: path below the bucket, and query.
            attempt: how often this request was made, from 1.
        """
        writes = method in ("PUT", "POST", "DELETE")
        random = Random(f"{self.seed} {method} {_RUN_ID.sub('run', target)}")
        if random.random() >= (self.write_rate if writes else self.read_rate):
            return None
        burst = min(MAX_BURST, 1 + int(random.expovariate(0.7)))  # mostly 1 or 2, 1 in 33 beats 5
        kinds = random.choices(WRITE_FAULTS if writes else READ_FAULTS, k=burst)
        return kinds[attempt - 1] if attempt <= burst else None


def change_some(seed: int, keys: Iterable[str], share: float) -> dict[str, Fault]:
    """A plan's ``changes``: some of the keys, each with a kind of change."""
    random = Random(seed)
    return {key: random.choice(CHANGES) for key in sorted(keys) if random.random() < share}
