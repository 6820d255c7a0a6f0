"""The output lock: folders and a real S3 server, threads and processes that are killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pipeline.output.lock import (
    LOCK_NAME,
    WITHOUT_LOCK,
    CannotLockError,
    LockedError,
    LockLostError,
    OutputLock,
)
from pipeline.schema import ErrorCode
from pipeline.storage import (
    StorageError,
    create_object,
    list_objects,
    read_object,
    replace_object,
    write_object,
)
from tests.storage.odd_s3 import OddS3

PointAt = Callable[[str], None]
FAST = {"heartbeat_s": 0.1, "stale_s": 1.0}
HOLDERS = multiprocessing.get_context("forkserver")  # whose imports are made once for all
HOLDERS.set_forkserver_preload([__name__])


# What a lock waits for it waits for on any server.
@pytest.fixture(
    params=["local", "bucket", pytest.param("seaweedfs_bucket", marks=pytest.mark.slow)]
)
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of an output that is new."""
    if request.param == "local":
        return f"file://{tmp_path}/out"
    return f"s3://{request.getfixturevalue(request.param)}/out"


def lock(output: str, run_id: str, **more: object) -> OutputLock:
    return OutputLock(output, run_id=run_id, **(FAST | more))  # type: ignore[arg-type]


def on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process no longer knows the host of locks that were taken before."""
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")


def in_file(output: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(read_object(f"{output}/{LOCK_NAME}")[0])
    return found


def hold(output: str, environment: dict[str, str], held: Connection) -> None:
    os.environ.update(environment)
    with lock(output, "killed"):
        held.send("held")
        time.sleep(600)


def kill_a_holder(output: str) -> None:
    """Another process takes the lock and is killed."""
    ours, its = HOLDERS.Pipe()
    holder = HOLDERS.Process(target=hold, args=(output, dict(os.environ), its), daemon=True)
    holder.start()
    its.close()
    assert ours.recv() == "held"
    holder.kill()
    holder.join()


def test_a_second_owner_is_refused_with_the_first_ones_name(output: str) -> None:
    with lock(output, "first"):
        with pytest.raises(LockedError) as refused, lock(output, "second"):
            pass
        assert "run first on" in str(refused.value)
        assert f"pid {os.getpid()}" in str(refused.value)
        assert "--lock-wait-s" in str(refused.value)
    with lock(output, "second") as second:
        second.check()


def test_an_owner_on_another_machine_is_refused_once_it_shows_a_sign_of_life(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lock(output, "first") as first:
        on_another_machine(monkeypatch)
        with pytest.raises(LockedError, match="run first on"), lock(output, "second"):
            pass
        time.sleep(1.5 * FAST["stale_s"])
        first.check()


def test_waiting_gets_the_lock_when_it_is_free(output: str, told: list[str]) -> None:
    with lock(output, "first"):
        waiting = lock(output, "second", wait_s=60)
        taken = threading.Thread(target=lambda: waiting.__enter__().__exit__(None, None, None))
        taken.start()
        time.sleep(0.3)
        assert taken.is_alive()
    taken.join(timeout=20)
    assert not taken.is_alive()
    assert [line for line in told if "waiting" in line]
    assert in_file(output)["run_id"] == "second"


def test_a_killed_owner_of_this_machine_is_replaced_at_once(output: str, told: list[str]) -> None:
    kill_a_holder(output)
    started = time.monotonic()
    with OutputLock(output, run_id="next"):
        assert time.monotonic() - started < 10
    assert ["taking the lock over from run killed" in line for line in told] == [True]


def test_a_killed_owner_of_another_machine_is_replaced_after_the_stale_time(
    output: str, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    kill_a_holder(output)
    on_another_machine(monkeypatch)
    started = time.monotonic()
    # It waits, because the last request of the killed one may come to light late.
    with lock(output, "next", wait_s=60):
        assert time.monotonic() - started >= FAST["stale_s"]
    assert "taking over after 1 s" in told[0]


def test_of_many_that_want_it_one_has_it_at_any_time(output: str) -> None:
    """Each adds one to a counter that is not written atomically."""
    write_object(f"{output}/counter", b"0")

    def count(i: int) -> None:
        with lock(output, f"run-{i}", wait_s=60):
            value = int(read_object(f"{output}/counter")[0])
            time.sleep(0.02)
            write_object(f"{output}/counter", str(value + 1).encode())

    threads = [threading.Thread(target=count, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert read_object(f"{output}/counter")[0] == b"8"


def test_an_owner_that_was_taken_over_stops_and_leaves_the_lock_alone(output: str) -> None:
    with lock(output, "first") as first:
        write_object(f"{output}/{LOCK_NAME}", json.dumps({"run_id": "thief"}).encode())
        time.sleep(5 * FAST["heartbeat_s"])
        with pytest.raises(LockLostError, match="taken over"):
            first.check()
    assert in_file(output) == {"run_id": "thief"}


def test_an_owner_without_heartbeats_asks_before_it_commits(output: str) -> None:
    """As after a suspended machine: no thread ran, but nobody took over either."""
    with OutputLock(output, run_id="first", heartbeat_s=60, stale_s=0.2) as first:
        time.sleep(0.3)
        first.check()
        assert in_file(output)["heartbeats"] == 1
        write_object(f"{output}/{LOCK_NAME}", b"{}")
        time.sleep(0.3)
        with pytest.raises(LockLostError):
            first.check()


def test_a_heartbeat_whose_answer_was_lost_is_still_ours(output: str) -> None:
    """The request reached storage, so the ETag is another one than the owner knows."""
    with lock(output, "first") as first:
        write_object(f"{output}/{LOCK_NAME}", read_object(f"{output}/{LOCK_NAME}")[0] + b"\n")
        time.sleep(3 * FAST["heartbeat_s"])
        first.check()
    assert in_file(output)["released"] is True


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'{"pid": 1}', b"{}"])
def test_a_damaged_lock_goes_stale(output: str, body: bytes) -> None:
    write_object(f"{output}/{LOCK_NAME}", body)
    with lock(output, "next", stale_s=0.2) as taken:
        taken.check()


def test_a_slow_store_is_none_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a lock to go stale took longer than it may be refused."""
    output = f"file://{tmp_path}/out"
    write_object(f"{output}/{LOCK_NAME}", b"{}")

    def slow(uri: str) -> tuple[bytes, str]:
        time.sleep(0.45)
        return read_object(uri)

    monkeypatch.setattr("pipeline.output.lock_owner.read_object", slow)
    with lock(output, "next", stale_s=0.2) as taken:
        taken.check()


def test_what_stands_in_a_lock_cannot_write_to_the_terminal(output: str) -> None:
    with lock(output, "evil\x1b[2J\n"):
        with pytest.raises(LockedError) as refused, lock(output, "second"):
            pass
        assert str(refused.value).isprintable()


def test_an_output_that_cannot_be_written_is_an_error_of_storage() -> None:
    with pytest.raises(StorageError) as failed, lock("/proc/nothing/here", "run"):
        pass
    assert failed.value.code in (ErrorCode.FETCH_FAILED, ErrorCode.NOT_FOUND)


def test_a_lock_on_a_store_that_takes_bare_etags_only_is_renewed_and_given_back(
    point_at: PointAt, told: list[str]
) -> None:
    """Ceph radosgw 16: no heartbeat was ever stored, and the output stayed locked for ever."""
    with OddS3(wants_bare_etags=True).running() as endpoint:
        point_at(endpoint)
        for run_id in ("first", "second"):
            with lock("s3://bucket/out", run_id) as held:
                deadline = time.monotonic() + 20
                while not in_file("s3://bucket/out")["heartbeats"]:
                    assert time.monotonic() < deadline
                    time.sleep(FAST["heartbeat_s"])
                held.check()
            assert in_file("s3://bucket/out")["released"] is True
    assert told == []


IGNORED = [("if-match",), ("if-none-match",), ("if-match", "if-none-match")]


@pytest.mark.parametrize("ignored", IGNORED)
def test_of_six_that_start_where_conditions_are_ignored_one_has_the_lock(
    ignored: tuple[str, ...], point_at: PointAt, told: list[str]
) -> None:
    """rclone, s3rver, localbucket: six of six held it, and nobody was told."""
    had: list[str] = []
    start, end = threading.Barrier(6), threading.Barrier(6)

    def take(run_id: str) -> None:
        start.wait()
        try:
            with OutputLock("s3://bucket/out", run_id=run_id, heartbeat_s=1, stale_s=20) as held:
                held.check()
                had.append(run_id)
                end.wait()
        except LockedError:
            end.wait()

    with OddS3(ignores=ignored).running() as endpoint:
        point_at(endpoint)
        threads = [threading.Thread(target=take, args=(f"run-{i}",)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert len(had) == 1
        assert in_file("s3://bucket/out")["run_id"] == had[0]
        assert in_file("s3://bucket/out")["released"] is True
    assert ["ignores conditions" in line for line in told if "ignores" in line]


@pytest.mark.parametrize("ignored", IGNORED)
def test_an_owner_that_was_taken_over_stops_where_conditions_are_ignored(
    ignored: tuple[str, ...], point_at: PointAt, told: list[str]
) -> None:
    with OddS3(ignores=ignored).running() as endpoint:
        point_at(endpoint)
        with lock("s3://bucket/out", "first", heartbeat_s=30, stale_s=10) as first:
            first.check()
            write_object(f"s3://bucket/out/{LOCK_NAME}", b'{"run_id": "thief"}')
            with pytest.raises(LockLostError, match="taken over by run"):
                first.check()
        assert in_file("s3://bucket/out") == {"run_id": "thief"}
    assert len([line for line in told if "ignores conditions" in line]) == 1


@pytest.mark.parametrize("header", ["if-match", "if-none-match"])
def test_a_store_that_refuses_conditions_names_the_remedy(
    header: str, point_at: PointAt, told: list[str]
) -> None:
    """Swift's s3api answers 501, even for a new key."""
    store = OddS3(refuses={header: 501})
    with store.running() as endpoint:
        point_at(endpoint)
        with pytest.raises(CannotLockError, match="--no-lock"), lock("s3://bucket/out", "run"):
            pass
        store.objects.clear()
        with lock("s3://bucket/out", "run", needed=False) as held:
            held.check()
    assert told == [WITHOUT_LOCK]
    assert store.objects == {}


def test_a_heartbeat_that_is_refused_is_not_taken_for_a_lost_answer(
    point_at: PointAt, told: list[str]
) -> None:
    store = OddS3()
    with store.running() as endpoint:
        point_at(endpoint)
        with lock("s3://bucket/out", "first") as first:
            store.refuses["if-match"] = 412
            time.sleep(FAST["stale_s"] / 2)
            with pytest.raises(LockLostError, match=r"can't be kept: .*that is the object's ETag"):
                first.check()
    assert ["can't be given back" in line for line in told] == [True]


def test_who_is_always_refused_waits_between_tries_and_ends_with_a_sentence(
    point_at: PointAt, told: list[str]
) -> None:
    """483 equal lines in a minute, and no end."""
    store = OddS3(refuses={"if-none-match": 412})
    with store.running() as endpoint:
        point_at(endpoint)
        began = time.monotonic()
        with (
            pytest.raises(CannotLockError, match="every write was refused"),
            lock("s3://bucket/out", "run", heartbeat_s=1, stale_s=0.5),
        ):
            pass
        assert 1 <= time.monotonic() - began < 30
    assert len(store.requests) < 50
    assert told == []


def test_conditional_writes_keep_what_others_wrote(output: str) -> None:
    uri = f"{output}/object"
    assert replace_object(uri, b"0", '"0"') is None
    first = create_object(uri, b"1")
    assert first is not None
    assert create_object(uri, b"another") is None
    second = replace_object(uri, b"22", first)
    assert second is not None
    assert replace_object(uri, b"333", first) is None
    assert read_object(uri) == (b"22", second)
    assert [o.uri for page in list_objects(output) for o in page] == [uri]


def test_of_many_that_create_an_object_one_does(output: str) -> None:
    won: list[int] = []
    start = threading.Barrier(8)

    def create(i: int) -> None:
        start.wait()
        if create_object(f"{output}/object", str(i).encode()):
            won.append(i)

    threads = [threading.Thread(target=create, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_object(f"{output}/object")[0] == b"%d" % won[0]
    assert len(won) == 1
