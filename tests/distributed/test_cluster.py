"""What is at a cluster's address, before Ray waits for it."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from pipeline.distributed.cluster import await_head


@pytest.fixture
def port() -> int:
    """One at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
        return number


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "[::1]:{}"])
def test_an_address_where_nothing_listens_is_given_up_soon(form: str, port: int) -> None:
    started = time.monotonic()
    with pytest.raises(OSError, match=r"refused|assign|unreachable|family"):
        await_head(form.format(port), within_s=0.2)
    assert time.monotonic() - started < 5


def test_a_head_that_starts_is_waited_for(port: int) -> None:
    started = threading.Event()

    def listen() -> None:
        time.sleep(0.3)
        with socket.create_server(("127.0.0.1", port)) as server:
            started.set()
            server.accept()[0].close()

    head = threading.Thread(target=listen)
    head.start()
    await_head(f"127.0.0.1:{port}", within_s=10)
    assert started.is_set()
    head.join()


@pytest.mark.parametrize("address", [None, "", "local", "auto", "127.0.0.1", "ray://", "host:name"])
def test_what_names_no_port_is_left_to_ray(address: str | None) -> None:
    await_head(address, within_s=0)


def test_the_address_that_jobs_are_submitted_to_is_left_to_ray(port: int) -> None:
    await_head(f"http://127.0.0.1:{port}", within_s=0)
