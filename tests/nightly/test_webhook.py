"""Posting to a real HTTP server that fails first, and what its URL's secret must not reach."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pipeline.nightly.webhook import WebhookError, post

TOKEN = "canary-token-0123456789"


class Receiver:
    """An HTTP server that answers with given statuses in turn; 0 closes the connection."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.received: list[tuple[str, dict[str, str], Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((self.path, dict(self.headers), json.loads(body)))
                status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
                if not status:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Be quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}/services/{TOKEN}?key={TOKEN}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_the_payload_arrives_as_json(receiver: Receiver) -> None:
    post(receiver.url, {"fired": True, "category": "größe\n"})
    ((path, headers, body),) = receiver.received
    assert path == f"/services/{TOKEN}?key={TOKEN}"
    assert headers["Content-Type"] == "application/json"
    assert body == {"fired": True, "category": "größe\n"}


@pytest.mark.parametrize("failures", [[503], [429, 500], [0], [0, 502]])
def test_what_may_pass_is_tried_again(receiver: Receiver, failures: list[int]) -> None:
    receiver.answers = [(status, {}) for status in failures]
    post(receiver.url, {"a": 1}, backoff_s=0.01)
    assert [body for *_, body in receiver.received] == [{"a": 1}] * (len(failures) + 1)


def test_the_server_may_ask_for_a_pause(receiver: Receiver) -> None:
    receiver.answers = [(429, {"Retry-After": "1"})]
    started = time.monotonic()
    post(receiver.url, {}, backoff_s=0.01)
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize(
    ("answers", "requests", "words"),
    [
        ([(503, {})] * 3, 3, "failed 3 times, last with: HTTP 503"),
        ([(0, {})] * 3, 3, "failed 3 times, last with: ConnectionError"),
        ([(404, {})], 1, "refused the message: HTTP 404"),
        ([(302, {"Location": "/elsewhere"})], 1, "refused the message: HTTP 302"),
    ],
)
def test_a_failure_names_the_host_only(
    receiver: Receiver,
    answers: list[Any],
    requests: int,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.answers = answers
    with caplog.at_level(logging.DEBUG), pytest.raises(WebhookError) as failed:
        post(receiver.url.replace("http://", f"http://me:{TOKEN}@"), {}, backoff_s=0.01)
    assert str(failed.value) == f"webhook http://{receiver.host} {words}"
    assert len(receiver.received) == requests
    assert TOKEN not in "".join(traceback.format_exception(failed.value))
    assert TOKEN not in caplog.text


def test_a_host_that_is_not_there_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/{TOKEN}"
        with caplog.at_level(logging.DEBUG), pytest.raises(WebhookError) as failed:
            post(url, {}, backoff_s=0.01)
    assert "failed 3 times" in str(failed.value)
    assert TOKEN not in "".join(traceback.format_exception(failed.value)) + caplog.text


@pytest.mark.parametrize(
    "url",
    [f"file:///{TOKEN}", f"ftp://host/{TOKEN}", TOKEN, f"http:///{TOKEN}", f"http://[{TOKEN}"],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(WebhookError, match="must start with http") as refused:
        post(url, {})
    assert TOKEN not in str(refused.value)


def test_a_password_becomes_a_header(receiver: Receiver) -> None:
    post(receiver.url.replace("http://", "http://me:word@"), {})
    expected = "Basic " + base64.b64encode(b"me:word").decode()
    assert receiver.received[0][1]["Authorization"] == expected


def test_the_payload_holds_no_secrets(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary-session-0123456789")
    post(receiver.url, {"why": f"canary-session-0123456789, {receiver.url}"})
    assert receiver.received[0][2] == {"why": "***, ***"}
