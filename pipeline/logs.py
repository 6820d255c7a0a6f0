"""What the jobs tell: lines of JSON for machines, with run and source, or text for people."""

from __future__ import annotations

import io
import json
import logging
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, TextIO

from .redaction import redact
from .terminal import clean, clean_lines

LogFormat = Literal["json", "text"]
MESSAGE_LENGTH = 10_000  # of a line: a traceback fits, a hostile object name does not flood the log

OWN_LINES = {"own_lines": True}  # extra= of a message whose line breaks are meant

_log = logging.getLogger(__name__)

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
    """Send what this process logs to where it is read, without secrets; so do unexpected errors.

    JSON goes to standard error; of text, progress goes to standard output. Whoever calls it again
    replaces the format; libraries log from WARNING on.

    Args:
        log_format: "json", one object a line, or "text".
        run_id, source: of all lines of JSON, until ``bind`` gives others.
        level: of the pipeline's own messages.
        stream: receives all instead.
    """
    problems = logging.StreamHandler(stream or sys.stderr)
    handlers = [problems]
    if log_format == "text":
        problems.setLevel(logging.WARNING)
        progress = logging.StreamHandler(stream or sys.stdout)
        progress.addFilter(lambda record: record.levelno < logging.WARNING)
        handlers.append(progress)
    for handler in handlers:
        handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(handlers=handlers, level=logging.WARNING, force=True)
    logging.raiseExceptions = False  # a terminal that went away ends no run
    logging.getLogger("pipeline").setLevel(level)
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
    """The message, from WARNING on behind its level; control characters are escaped everywhere.

    So are line breaks, which names of objects may hold, but for those of ``own_lines``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line, and more for a traceback."""
        escaped = clean_lines if getattr(record, "own_lines", False) else clean
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        lines = [level + escaped(redact(record.getMessage()), MESSAGE_LENGTH)]
        if record.exc_info:
            trace = redact(self.formatException(record.exc_info))
            lines += [clean(line, MESSAGE_LENGTH) for line in trace.splitlines()]
        return "\n".join(lines)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Python's own hook would print secrets and control characters that the error quotes."""
    _log.critical("unexpected error", exc_info=(kind, error, trace))
