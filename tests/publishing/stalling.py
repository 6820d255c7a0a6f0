"""Stands before an S3 server: notes what passes, and holds back the writes from some one on.

A write is what makes an object: a request of its own, or the last one of an upload in parts.
"""

from __future__ import annotations

import http.client
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from tests.storage.server import Handler, body_of, serving

HOP_BY_HOP = ("transfer-encoding", "connection", "content-length", "expect")


class Stalling:
    """What passed, and when to stop."""

    def __init__(self, endpoint: str, after: int) -> None:
        self._target, self._after, self._mutex = urlsplit(endpoint).netloc, after, threading.Lock()
        self._writes = 0
        self.requests: list[str] = []
        """Methods and paths of what passed."""
        self.held, self._over = threading.Event(), threading.Event()

    def respond(self, handler: Handler) -> None:
        """One request, which is forwarded, or has no answer."""
        body = _body(handler)
        if _completes_an_object(handler):
            with self._mutex:
                self._writes += 1
                held = self._writes > self._after
            if held:
                self.held.set()
                self._over.wait(60)
                handler.close_connection = True
                return
        self.requests.append(f"{handler.command} {unquote(handler.path)}")
        kept = {k: v for k, v in handler.headers.items() if k.lower() not in HOP_BY_HOP}
        connection = http.client.HTTPConnection(self._target)
        connection.request(handler.command, handler.path, body, kept)
        answer = connection.getresponse()
        data = answer.read()
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                handler.send_header(name, value)
        length = answer.getheader("Content-Length") if handler.command == "HEAD" else len(data)
        handler.send_header("Content-Length", str(length or 0))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(data)
        connection.close()

    def end(self) -> None:
        """Let go of what is held back; its client is gone."""
        self._over.set()


def _completes_an_object(handler: Handler) -> bool:
    """Whether an object is there once this request is answered: not of the parts of one."""
    query = urlsplit(handler.path).query
    whole = handler.command == "PUT" and "partNumber" not in query
    return whole or (handler.command == "POST" and "uploadId" in query)


def _body(handler: Handler) -> bytes:
    """What the client sent, which Arrow's sends in chunks."""
    if "chunked" not in handler.headers.get("Transfer-Encoding", ""):
        return body_of(handler)
    chunks = []
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        chunks.append(handler.rfile.read(size))
        handler.rfile.readline()
    while handler.rfile.readline().strip():
        pass  # trailers
    return b"".join(chunks)


@contextmanager
def stalling(endpoint: str, after: int = sys.maxsize) -> Iterator[tuple[str, Stalling]]:
    """A server of its own endpoint that holds back every write after so many."""
    server = Stalling(endpoint, after)
    try:
        with serving(server.respond) as own:
            yield own, server
    finally:
        server.end()
