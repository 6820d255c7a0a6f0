"""Reading: versions, failures, and what an error does not tell."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.schema import ErrorCode
from pipeline.storage import (
    amazon,
    read_object,
    stat,
    write_object,
)

from .calls import failure, list_all, listed
from .server import Handler, answer, serving


def test_stat_and_read_of_a_missing_object_are_not_found(root: str) -> None:
    for action in (stat, read_object):
        error = failure(action, f"{root}/missing.png")
        assert error.code == ErrorCode.NOT_FOUND
        assert f"{root}/missing.png" in str(error)


def test_a_local_folder_is_no_object(tmp_path: Path) -> None:
    for action in (stat, read_object):
        assert failure(action, f"file://{tmp_path}").code == ErrorCode.NOT_FOUND


def test_the_etag_changes_with_the_object(root: str) -> None:
    uri = f"{root}/a.png"
    write_object(uri, b"one")
    first = stat(uri)
    write_object(uri, b"other")
    assert stat(uri).etag != first.etag
    assert read_object(uri) == (b"other", stat(uri).etag)


def test_a_file_replaced_while_it_is_read_shows_in_the_etag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"file://{tmp_path}/a.png"
    write_object(uri, b"listed")
    (info,) = listed(str(tmp_path)).values()

    def replace_then_look(path: str) -> os.stat_result:
        monkeypatch.undo()
        write_object(uri, b"newer version")
        return os.stat(path)

    monkeypatch.setattr(os, "stat", replace_then_look)
    data, etag = read_object(uri)
    assert data == b"listed"
    assert etag != info.etag


def test_an_unknown_scheme_is_named() -> None:
    assert "nosuch://" in str(failure(list_all, "nosuch://bucket/dir"))


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (400, "ExpiredToken")])
def test_a_forbidden_object_and_expired_credentials_are_access_denied(
    status: int, code: str, point_at: Callable[[str], None]
) -> None:
    body = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
    with serving(lambda handler: answer(handler, body, status=status)) as endpoint:
        point_at(endpoint)
        for action in (read_object, list_all):
            assert failure(action, "s3://bucket/a.png").code == ErrorCode.ACCESS_DENIED


def test_a_body_cut_short_is_read_again(point_at: Callable[[str], None]) -> None:
    cut_short = [True, True, False]

    def get(handler: Handler) -> None:
        body = b"half" if cut_short.pop(0) else b"half and half"
        answer(handler, body, length=13, ETag='"e"')

    with serving(get) as endpoint:
        point_at(endpoint)
        assert read_object("s3://bucket/a.png") == (b"half and half", '"e"')


def test_a_body_always_cut_short_is_fetch_failed(point_at: Callable[[str], None]) -> None:
    requests: list[str] = []

    def get(handler: Handler) -> None:
        requests.append(handler.path)
        answer(handler, b"half", length=13, ETag='"e"')

    with serving(get) as endpoint:
        point_at(endpoint)
        assert failure(read_object, "s3://bucket/a.png").code == ErrorCode.FETCH_FAILED
    assert len(requests) == amazon.READ_ATTEMPTS


@pytest.mark.parametrize("action", [read_object, stat, list_all])
def test_a_refused_connection_is_fetch_failed_after_a_short_while(
    action: Callable[[str], Any],
    point_at: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(answer_nothing) as endpoint:
        pass  # the port is free again
    point_at(endpoint)
    waits: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time", Clock(waits))
    assert failure(action, "s3://bucket/a.png").code == ErrorCode.FETCH_FAILED
    assert 1 <= len(waits) <= 4, "botocore's retries must not be multiplied by our own"
    assert sum(waits) <= 15


def answer_nothing(handler: Handler) -> None:
    pass


class Clock:
    """botocore's ``time`` module, with waits that are noted instead of slept."""

    def __init__(self, waits: list[float]) -> None:
        self.sleep = waits.append

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.mark.parametrize("broken", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"])
def test_a_credential_with_a_line_break_is_not_quoted(
    broken: str, point_at: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(broken, "SENSITIVE\n")
    monkeypatch.setattr("botocore.endpoint.time", Clock([]))
    with serving(answer_nothing) as endpoint:
        point_at(endpoint)
        error = failure(read_object, "s3://bucket/a.png")
    assert error.code == ErrorCode.ACCESS_DENIED
    assert "credential" in str(error)
    assert "SENSITIVE" not in "".join(traceback.format_exception(error))


def test_wrong_credentials_are_not_quoted(
    point_at: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, f"SENSITIVE{name}")
    body = (
        b"<Error><Code>InvalidAccessKeyId</Code><Message>The AWS Access Key Id you provided does "
        b"not exist in our records.</Message><AWSAccessKeyId>SENSITIVE</AWSAccessKeyId></Error>"
    )
    with serving(lambda handler: answer(handler, body, status=403)) as endpoint:
        point_at(endpoint)
        for action in (list_all, read_object):
            error = failure(action, "s3://bucket/a.png")
            assert error.code == ErrorCode.ACCESS_DENIED
            assert "SENSITIVE" not in "".join(traceback.format_exception(error))
