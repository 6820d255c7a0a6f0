"""A reverse proxy before an S3 server that does to requests what a plan says."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from aiohttp import ClientSession, DummyCookieJar, web
from yarl import URL

from .plan import Fault, Plan

MAX_OBJECT_BYTES = 2**30
DELAY_S = 0.3  # a burst of delays stays shorter than a test
# Of one connection only (RFC 9110, 7.6.1), or made anew by aiohttp.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "content-length"}

Change = Callable[[str, str, Fault], None]


class Proxy:
    """The faults and their count; ``plan`` may be replaced between two runs."""

    def __init__(self, upstream: str, change: Change) -> None:
        """Prepare.

        Args:
            upstream: endpoint of the S3 server.
            change: changes the object of a bucket and key as a fault says, at the S3 server itself.
        """
        self._upstream, self._change = upstream, change
        self._lock = threading.Lock()
        self.start(Plan())

    def start(self, plan: Plan) -> None:
        """Follow a plan from its beginning."""
        with self._lock:
            self._plan = plan
            self.requests: Counter[tuple[str, str]] = Counter()
            """Requests since, by method and by path without the bucket."""
            self._changed: set[str] = set()
            self.served = 0
            """Requests since: the clock by which other faults happen."""
            self.injected: Counter[Fault] = Counter()
            """Faults done since."""

    async def handle(self, request: web.Request, session: ClientSession) -> web.StreamResponse:
        """Answer one request; ``session`` is for the way to the S3 server."""
        await self._change_first(request)
        fault = self._next_fault(request)
        if fault == Fault.DELAY:
            await asyncio.sleep(DELAY_S)
        elif fault == Fault.SLOW_DOWN:
            await request.read()
            return _error(503, "SlowDown", "Please reduce your request rate.")
        elif fault == Fault.EXPIRED:
            await request.read()
            return _error(400, "ExpiredToken", "The provided token has expired.")
        elif fault == Fault.PUT_LOST:
            await request.read()
            return _error(500, "InternalError", "We encountered an internal error.")
        elif fault == Fault.RESET:
            return _reset(request)
        status, headers, body = await self._forward(request, session)
        if fault == Fault.PUT_UNACKNOWLEDGED:
            return _reset(request)
        if fault == Fault.CUT:
            return await _cut(request, status, headers, body)
        if request.method == "HEAD":
            return web.Response(status=status, headers=headers)
        headers.pop("Content-Length", None)
        return web.Response(status=status, headers=headers, body=body)

    async def _change_first(self, request: web.Request) -> None:
        """Change an object between the listing that named it and the first byte of its body."""
        bucket, _, key = request.path.removeprefix("/").partition("/")
        change = self._plan.changes.get(key)
        with self._lock:
            if change is None or request.method != "GET" or key in self._changed:
                return
            self._changed.add(key)
            self.injected[change] += 1
        await asyncio.to_thread(self._change, bucket, key, change)

    def _next_fault(self, request: web.Request) -> Fault | None:
        with self._lock:
            self.served += 1
            after = self._plan.expire_after
            if after is not None and self.served > after:
                fault: Fault | None = Fault.EXPIRED
            else:
                target = re.sub("^/[^/?]*", "", request.raw_path)  # buckets have random names
                self.requests[request.method, target] += 1
                attempt = self.requests[request.method, target]
                fault = self._plan.fault(request.method, target, attempt)
            if fault == Fault.CUT and request.method == "HEAD":
                fault = None  # an answer without a body
            if fault is not None:
                self.injected[fault] += 1
            return fault

    async def _forward(
        self, request: web.Request, session: ClientSession
    ) -> tuple[int, dict[str, str], bytes]:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        url = URL(self._upstream + request.raw_path, encoded=True)
        data = await request.read()
        async with session.request(
            request.method, url, headers=headers, data=data, allow_redirects=False
        ) as answer:
            kept = {
                name: value
                for name, value in answer.headers.items()
                if name.lower() not in HOP_BY_HOP or name.lower() == "content-length"
            }
            return answer.status, kept, await answer.read()


@contextmanager
def running(proxy: Proxy) -> Iterator[str]:
    """Serve in a thread on a free loopback port; yields the endpoint."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        app = web.Application(client_max_size=MAX_OBJECT_BYTES)
        async with ClientSession(auto_decompress=False, cookie_jar=DummyCookieJar()) as session:
            app.router.add_route("*", "/{path:.*}", partial(proxy.handle, session=session))
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            await web.SockSite(runner, listener).start()
            ready.set()
            await stop.wait()
            await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()], daemon=True)
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def _error(status: int, code: str, message: str) -> web.Response:
    """An error as S3 words it."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


def _reset(request: web.Request) -> web.Response:
    """End the connection with a TCP reset instead of an answer."""
    assert request.transport is not None
    connection = request.transport.get_extra_info("socket")
    # Linger on, for no time: closing sends RST, not FIN (socket(7)).
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return web.Response()


async def _cut(
    request: web.Request, status: int, headers: dict[str, str], body: bytes
) -> web.StreamResponse:
    """Promise the whole body and send half of it."""
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    if half := body[: len(body) // 2]:
        await response.write(half)
    response.force_close()
    assert request.transport is not None
    request.transport.close()
    return response
