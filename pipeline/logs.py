"""Log lines of the jobs: JSON for machines or text for people, each with run and source."""

from __future__ import annotations

import io
import json
import logging
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, TextIO

from .redaction import redact
from .terminal import clean

LogFormat = Literal["json", "text"]
MESSAGE_LENGTH = 10_000  # of a line: a traceback fits, a hostile object name does not flood the log

# A process runs one scan at a time, and its threads log for it: so no thread-local context.
_bound = {"run_id": "", "source": ""}


def configure(
    log_format: LogFormat = "text",
    *,
    run_id: str = "",
    source: str = "",
    level: int = logging.INFO,
    stream: TextIO | None = None,
) -> None:
    """Send the log of this process to a stream, without secrets; so do unexpected errors.

    Whoever calls it again replaces the format; libraries log from WARNING on.

    Args:
        log_format: "json", one object a line, or "text".
        run_id, source: of all lines, until ``bind`` gives others.
        level: of the pipeline's own messages.
        stream: default: standard error.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in ("pipeline", "jobs"):
        logging.getLogger(name).setLevel(level)
    _bound.update(run_id=run_id, source=source)
    sys.excepthook = _log_uncaught


def escape_unencodable() -> None:
    """Print what a terminal's encoding lacks as an escape, instead of ending at the first name."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def bind(**fields: str) -> None:
    """Put ``run_id`` or ``source`` on all lines from now on, until they are bound again."""
    _bound.update(fields)


class JsonFormatter(logging.Formatter):
    """time, level, run_id, source, logger, message and error (a traceback) as one line of JSON.

    Everything but ASCII is escaped: no line of a log can break the next, or a terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            **_bound,
            "logger": record.name,
            "message": redact(record.getMessage())[:MESSAGE_LENGTH],
        }
        if record.exc_info:
            fields["error"] = redact(self.formatException(record.exc_info))[-MESSAGE_LENGTH:]
        return json.dumps(fields)


class TextFormatter(logging.Formatter):
    """Time, level, source and message; control characters are escaped, also in tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and more for a traceback."""
        time = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        source = f" [{clean(_bound['source'])}]" if _bound["source"] else ""
        message = clean(redact(record.getMessage()), MESSAGE_LENGTH)
        lines = [f"{time} {record.levelname}{source} {message}"]
        if record.exc_info:
            trace = redact(self.formatException(record.exc_info))
            lines += [clean(line, MESSAGE_LENGTH) for line in trace.splitlines()]
        return "\n".join(lines)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Python's own hook would print secrets and control characters that the error quotes."""
    logging.getLogger("jobs").critical("unexpected error", exc_info=(kind, error, trace))
