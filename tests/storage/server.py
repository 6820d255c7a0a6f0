"""An S3 endpoint that answers as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Handler = BaseHTTPRequestHandler


@contextmanager
def serving(respond: Callable[[Handler], None]) -> Iterator[str]:
    """An HTTP server that gives every request to a function; yields its address."""

    class Quiet(Handler):
        protocol_version = "HTTP/1.1"  # else boto3 waits a second before it sends a body

        def parse_request(self) -> bool:
            parsed = super().parse_request()
            setattr(self, f"do_{self.command}", lambda: respond(self))
            return parsed

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def body_of(handler: Handler) -> bytes:
    """What the client sent."""
    return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))


def answer(
    handler: Handler, body: bytes, *, status: int = 200, length: int | None = None, **headers: str
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.send_header("Connection", "close")
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
    handler.close_connection = True
