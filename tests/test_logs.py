"""Log lines: machines read them, terminals survive them, secrets are not in them."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from datetime import datetime

import pytest

from pipeline import logs

HOSTILE = "bolt\x1b[2J\x9b31m\n\u202eevil<script>"
SECRET = "canary-secret-0123456789"


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Where the log goes."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return io.StringIO()


def test_a_json_line_tells_time_level_run_and_source(stream: io.StringIO) -> None:
    logs.configure("json", run_id="run-1", source="camera 4", stream=stream)
    logging.getLogger("pipeline.scan").info("%d images", 12)
    logs.bind(run_id="run-2")
    logging.getLogger("pipeline.nightly").warning("slow")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert datetime.fromisoformat(first.pop("time")).tzinfo
    assert first == {
        "level": "INFO",
        "run_id": "run-1",
        "source": "camera 4",
        "logger": "pipeline.scan",
        "message": "12 images",
    }
    assert (second["run_id"], second["source"], second["level"]) == ("run-2", "camera 4", "WARNING")


def test_a_text_line_is_for_people(stream: io.StringIO) -> None:
    logs.configure("text", source="camera 4", stream=stream)
    logging.getLogger("pipeline").info("12 images")
    logging.getLogger("pipeline").warning("slow")
    logging.getLogger("pipeline").error("bad\nkey")
    logging.getLogger("pipeline").error("bad\nkey", extra=logs.OWN_LINES)
    expected = ["12 images", "warning: slow", "error: bad\\nkey", "error: bad", "key"]
    assert stream.getvalue().splitlines() == expected


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_hostile_names_stay_on_their_line_and_off_the_terminal(
    log_format: logs.LogFormat, stream: io.StringIO
) -> None:
    logs.configure(log_format, source=HOSTILE, stream=stream)
    logging.getLogger("pipeline").info("bad object %s", HOSTILE + "x" * 100_000)
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().rstrip("\n").isprintable()
    assert len(stream.getvalue()) < 2 * logs.MESSAGE_LENGTH
    if log_format == "json":
        assert json.loads(stream.getvalue())["source"] == HOSTILE, "nothing is lost"


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_secrets_are_hidden_also_in_tracebacks(
    log_format: logs.LogFormat, stream: io.StringIO
) -> None:
    logs.configure(log_format, stream=stream)
    try:
        raise OSError(f"no answer from https://me:{SECRET}@host/ for {HOSTILE}")
    except OSError:
        logging.getLogger("pipeline").exception("signed with %s", SECRET)
    assert SECRET not in stream.getvalue()
    assert "OSError: no answer from https://***@host/" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_libraries_are_heard_from_warnings_on(stream: io.StringIO) -> None:
    logs.configure("text", stream=stream)
    logging.getLogger("botocore").info("chatter")
    logging.getLogger("botocore").warning("trouble")
    assert "chatter" not in stream.getvalue()
    assert "trouble" in stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_an_unexpected_error_ends_a_job_without_telling_secrets(
    log_format: logs.LogFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRET)
    code = f"from pipeline import logs; logs.configure({log_format!r}); import os\n"
    code += "raise RuntimeError(os.environ['AWS_SESSION_TOKEN'] + chr(27) + '[2J')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 1
    assert SECRET not in ended.stdout + ended.stderr
    assert "\x1b" not in ended.stderr
    assert "RuntimeError: ***" in ended.stderr
    assert len(ended.stderr.splitlines()) == (1 if log_format == "json" else 4)
