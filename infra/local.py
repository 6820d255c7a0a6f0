"""A laptop's stand-in for the cloud: an S3 server and a Ray cluster with a job server.

Both run in their own processes on free loopback ports and are stopped, with every process they
started, when the ``with`` block ends. The demo, the integration tests and the benchmarks use them.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 5.0  # Ray would wait longer for actors of its own that never end
LOCAL_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_DEFAULT_REGION": "us-east-1",
}
# Each of its parts listens on two: its own, and one for its siblings.
SEAWEEDFS_PORTS = [
    f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer") for kind in ("", ".grpc")
]


@dataclass(frozen=True)
class RayCluster:
    """A running local cluster."""

    address: str
    """Address of the job server, for ``ray job submit --address``."""
    gcs_address: str
    """Address for ``ray.init`` and the jobs' ``--address``."""
    environment: Mapping[str, str]
    """What a client's environment needs to reach it: address and authentication token."""
    pid: int
    """Process above all of the head node's: ``descendants(pid)``."""


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """An in-memory S3 server (moto); yields the environment variables that point clients at it."""
    port = _free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, {}, "S3 server") as process:
        _wait_for(endpoint, process, "S3 server")
        yield {"AWS_ENDPOINT_URL": endpoint, **LOCAL_CREDENTIALS}


@contextmanager
def seaweedfs_server() -> Iterator[dict[str, str]]:
    """A SeaweedFS S3 server of its own; yields the environment variables of ``s3_server``."""
    ports = {name: _free_port() for name in SEAWEEDFS_PORTS}
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    with tempfile.TemporaryDirectory(prefix="seaweedfs-") as folder:
        # Files of 64 MB, or each bucket would claim 7 GB of what the disk has left.
        command = [_beside_python("weed"), "server", "-s3", "-ip=127.0.0.1", f"-dir={folder}"]
        command += ["-master.volumeSizeLimitMB=64", "-volume.max=0", "-master.telemetry=false"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += [f"-{name}={port}" for name, port in ports.items()]
        # An identity, because without any it takes every request for an anonymous administrator's.
        config = Path(folder, "identities.json")
        keys = {
            "accessKey": LOCAL_CREDENTIALS["AWS_ACCESS_KEY_ID"],
            "secretKey": LOCAL_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        }
        identity = {"name": "local", "credentials": [keys], "actions": ["Admin"]}
        config.write_text(json.dumps({"identities": [identity]}))
        with _running([*command, f"-s3.config={config}"], {}, "SeaweedFS") as process:
            _wait_for(endpoint, process, "SeaweedFS")
            yield {"AWS_ENDPOINT_URL": endpoint, **LOCAL_CREDENTIALS}
            process.kill()  # it takes seconds to end in order, and nothing of it is kept


@contextmanager
def ray_cluster(*, num_cpus: int, environment: Mapping[str, str]) -> Iterator[RayCluster]:
    """A one-node cluster with a job server and token authentication.

    Args:
        num_cpus: CPUs that Ray schedules on, whatever the machine has.
        environment: extra variables of the cluster's processes, such as an S3 endpoint.
    """
    port, dashboard = _free_port(), _free_port()
    address = f"http://127.0.0.1:{dashboard}"
    client = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray forgets an uploaded working directory after so long, though the next job names it.
        "RAY_RUNTIME_ENV_TEMPORARY_REFERENCE_EXPIRATION_S": "7200",
        # A job's entrypoint says "python": it has to find this environment's.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    # Ray's socket paths must stay below 108 characters, so no deep temporary folder.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        command += ["--node-ip-address=127.0.0.1", f"--port={port}"]
        command += [f"--num-cpus={num_cpus}", f"--temp-dir={folder}"]
        command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
        command += [f"--ray-client-server-port={_free_port()}"]
        command += [f"--dashboard-agent-listen-port={_free_port()}"]
        with _running(command, {**environment, **client}, "Ray cluster") as process:
            _wait_for(f"{address}/api/version", process, "Ray cluster", client["RAY_AUTH_TOKEN"])
            environment = {**client, "RAY_ADDRESS": address}
            yield RayCluster(address, f"127.0.0.1:{port}", environment, process.pid)


@contextmanager
def ray_node(
    cluster: RayCluster, *, num_cpus: int, environment: Mapping[str, str], flags: Sequence[str] = ()
) -> Iterator[int]:
    """One more node of a local cluster; yields the process above all of the node's.

    Linux only: a second node of one machine needs an address of its own, 127.0.0.2.

    Args:
        num_cpus: CPUs of the node.
        environment: as for ``ray_cluster``.
        flags: more of ``ray start``.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
    command += [f"--address={cluster.gcs_address}", "--node-ip-address=127.0.0.2"]
    command += [f"--num-cpus={num_cpus}", f"--dashboard-agent-listen-port={_free_port()}", *flags]
    variables = {**environment, **cluster.environment}
    del variables["RAY_ADDRESS"]  # of the job server, which `ray start` would join instead
    with _running(command, variables, "Ray node") as process:
        _wait_for_node(cluster, process)
        yield process.pid


@contextmanager
def _running(
    command: list[str], environment: Mapping[str, str], what: str
) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        try:
            yield process
        except BaseException:
            if process.poll():
                log.seek(0)
                print(
                    f"{what} ended: {log.read().decode(errors='replace')[-2000:]}", file=sys.stderr
                )
            raise
        finally:
            _stop(process)


def _end_with_parent() -> None:
    """Ask Linux to end this child, politely, when its parent is killed and can't clean up."""
    pr_set_pdeathsig = 1  # linux/prctl.h
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let the process end itself and its children; kill what is left after a while."""
    members = [process.pid, *descendants(process.pid)]
    process.terminate()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline and any(map(_alive, members)):
        process.poll()
        time.sleep(0.1)
    for pid in filter(_alive, members):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def descendants(pid: int) -> list[int]:
    """Processes below a process: Ray's daemons lead sessions of their own."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _wait_for(url: str, process: subprocess.Popen[bytes], what: str, token: str = "") -> None:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the {what} ended with code {process.returncode} while starting")
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except urllib.error.HTTPError:
            return  # it answers, which is all that was asked
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the {what} did not answer within {START_TIMEOUT_S:.0f} s")


def _wait_for_node(cluster: RayCluster, process: subprocess.Popen[bytes]) -> None:
    token = cluster.environment["RAY_AUTH_TOKEN"]
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{cluster.address}/api/v0/nodes?detail=1", headers=headers)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(request, timeout=5) as answer:
            nodes = json.load(answer)["data"]["result"]["result"]
            if any(n["node_ip"] == "127.0.0.2" and n["state"] == "ALIVE" for n in nodes):
                return
        time.sleep(0.2)
    raise RuntimeError("the Ray node did not join the cluster")


def _beside_python(program: str) -> str:
    """A program that a wheel put beside this Python, whatever the PATH says."""
    return str(Path(sys.executable).parent / program)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
