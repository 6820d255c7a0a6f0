"""Fixtures shared by all tests: thread counts, an isolated environment, the golden model, S3."""

from __future__ import annotations

import functools
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import boto3
import botocore.loaders
import botocore.session
import pytest
import s3fs
import torch
from xdist.scheduler import LoadScopeScheduling

from infra.local import LOCAL_CREDENTIALS, s3_server, seaweedfs_server
from pipeline import logs
from pipeline.storage import access
from tests import golden, listening
from tests.listening import on_each_line

torch.set_num_threads(1)  # more would spin at every barrier of these tiny models
# S3's description, which every new session reads anew, is half a second of parsing JSON.
botocore.session.create_loader = functools.cache(botocore.loaders.create_loader)  # type: ignore[attr-defined]

# Whose tests start Ray, themselves or through a job: one process of ``pytest --numprocesses`` has
# those that start it themselves, the other one those that start jobs.
WITH_RAY = {
    "cluster": ("tests/distributed/",),
    "jobs": (
        "tests/benchmark/",
        "tests/commands/",
        "tests/docs/test_notebook.py",
        "tests/faults/",
        "tests/integration/",
        "tests/test_security.py",
    ),
}


class TwoClusters(LoadScopeScheduling):
    """At most two Rays at a time, which the smallest machine bears; the other tests go by files."""

    def _split_scope(self, nodeid: str) -> str:
        for group, tests in WITH_RAY.items():
            if nodeid.startswith(tests):
                return group
        return nodeid.split("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TwoClusters:
    """Instead of ``--dist``."""
    return TwoClusters(config, log)


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """No test sees the user's credentials, caches or network."""
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("home")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "RAY_ADDRESS"):
        patch.delenv(name, raising=False)
    patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    patch.setenv("AWS_CONFIG_FILE", str(home / "aws_config"))
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "aws_credentials"))
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("HF_HUB_OFFLINE", "1")
    # gcsfs would ask, by gRPC, what kind of bucket it is, which no stand-in answers.
    patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Rays of two processes must not find each other; paths of sockets have to be short.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    patch.setenv("RAY_TMPDIR", folder)
    # Workers wait for the next test instead of being started anew: Ray ends more than CPUs.
    patch.setenv("RAY_num_workers_soft_limit", "8")
    yield patch
    patch.undo()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Jobs that run in this process send what is logged to streams of one test."""
    root, hook, raises = logging.getLogger(), sys.excepthook, logging.raiseExceptions
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level, sys.excepthook = handlers, level, hook
    logging.raiseExceptions = raises
    listening.PIPELINE.setLevel(logging.NOTSET)
    logs.bind(run_id="", source="")


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What the pipeline logs during the test, as it comes."""
    lines: list[str] = []
    with on_each_line(lines.append):
        yield lines


@pytest.fixture(scope="session")
def s3(environment: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An S3 server over HTTP; this process and those it starts are pointed at it."""
    with s3_server() as variables:
        for name, value in variables.items():
            environment.setenv(name, value)
        yield variables


@pytest.fixture
def bucket(s3: dict[str, str]) -> str:
    """The name of a new, empty bucket."""
    name = f"test-{uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def seaweedfs(environment: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A second S3 server, which shares no code with moto; nothing is pointed at it yet."""
    with seaweedfs_server() as variables:
        yield variables


@pytest.fixture
def seaweedfs_bucket(seaweedfs: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A new, empty bucket there; this process and those it starts are pointed at it."""
    for name, value in seaweedfs.items():
        monkeypatch.setenv(name, value)
    forget_clients(monkeypatch)
    name = f"test-{uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    yield name
    forget_clients(monkeypatch)


@pytest.fixture
def point_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Points the S3 clients at another endpoint for the length of the test."""
    for name, value in LOCAL_CREDENTIALS.items():
        monkeypatch.setenv(name, value)

    def point(endpoint: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        forget_clients(monkeypatch)

    yield point
    forget_clients(monkeypatch)


def forget_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request makes its client anew, from the environment."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    access.s3_client.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def golden_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The golden weights as files: ``load_adaclip``'s backbone, backbone_weights, checkpoint."""
    return golden.write_weights(tmp_path_factory.mktemp("golden"))
