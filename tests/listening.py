"""What the pipeline logs, while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PIPELINE = logging.getLogger("pipeline")


class _Listener(logging.Handler):
    def __init__(self, receive: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._receive = receive

    def emit(self, record: logging.LogRecord) -> None:
        self._receive(record)


@contextmanager
def on_each_line(receive: Callable[[str], None], level: int = logging.INFO) -> Iterator[None]:
    """Call a function with every message, in the thread that logs it; what it raises, that raises.

    Args:
        receive: gets the text.
        level: least of the records.
    """
    listener, before = _Listener(lambda record: receive(record.getMessage())), PIPELINE.level
    listener.setLevel(level)
    PIPELINE.addHandler(listener)
    PIPELINE.setLevel(logging.INFO)
    try:
        yield
    finally:
        PIPELINE.removeHandler(listener)
        PIPELINE.setLevel(before)
