"""Where a driver's memory comes from, and when what it freed goes back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

ARROW_POOL = "ARROW_DEFAULT_MEMORY_POOL"  # Arrow C++, "Environment Variables"


@contextmanager
def arrow_from_the_system() -> Iterator[None]:
    """Arrow, if imported within, takes memory from the C library, as NumPy does.

    Its own allocator keeps up to 40 MB more in a driver, of small tables. Readers and scorers still
    have it, for it takes a fifth of the time with blocks of pixels: their processes, which get
    this one's environment later, hear nothing of it.
    """
    if ARROW_POOL in os.environ:
        yield
        return
    os.environ[ARROW_POOL] = "system"
    try:
        yield
    finally:
        del os.environ[ARROW_POOL]


def give_back() -> None:
    """Let the operating system have what is free in this process.

    The C library keeps it, for each thread apart: after a large table, 20 to 50 MB. Arrow asks
    it for all of them, so Python's and NumPy's go too; it takes a millisecond or a few.
    """
    import pyarrow  # not above: it looks once where its memory comes from

    pyarrow.default_memory_pool().release_unused()
