"""A bucket, a faulty way to it, a Ray cluster of two nodes, and the job as users run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import boto3

from infra.local import RayCluster, ray_cluster, ray_node
from tests import golden
from tests.bucket import BROKEN

from .checks import Bucket, Findings, Version, check_end, check_run, final_versions
from .images import NUM_IMAGES, key_of, original, reference, successor
from .plan import Fault, Plan
from .proxy import Proxy, running

ROOT = Path(__file__).parents[2]
MAX_ERROR_RATE = 0.25  # the broken objects stay below, a storm of faults may not
HEALTHY_RUNS = 2  # that finish what a disturbed run left
NODE_STARTS = 3  # Ray gives a node 30 s to start, which a busy machine may need longer for
RUN_TIMEOUT_S = 300.0  # 20 times what a run takes: it hangs


@dataclass
class Outcome:
    """What a scenario did and found."""

    name: str
    seed: int
    injected: Counter[Fault] = field(default_factory=Counter)
    runs: int = 0
    returncodes: list[int] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)


class World:
    """Everything that outlives a scenario."""

    def __init__(self, endpoint: str, stack: ExitStack) -> None:
        self._client = boto3.client("s3", endpoint_url=endpoint)
        folder = tempfile.TemporaryDirectory(prefix="faults-")
        self._folder = Path(stack.enter_context(folder))
        self._weights = golden.write_weights(self._folder)
        self._reference = reference(self._weights)
        self._ever: set[Version] = set()
        self.proxy = Proxy(endpoint, self._change)
        proxied = stack.enter_context(running(self.proxy))
        self.environment = {"AWS_ENDPOINT_URL": proxied, "OMP_NUM_THREADS": "1"}
        self.cluster: RayCluster = stack.enter_context(
            ray_cluster(num_cpus=2, environment=self.environment)
        )
        self._node = stack.enter_context(ExitStack())
        self.node_pid = 0
        self.replace_node()

    @property
    def roots(self) -> list[int]:
        """Processes below which the cluster's are."""
        return [self.cluster.pid, self.node_pid]

    def replace_node(self, *flags: str, **environment: str) -> None:
        """Stop what is left of the second node and start it anew."""
        self._node.close()
        variables = {**self.environment, **environment}
        for attempt in range(1, NODE_STARTS + 1):
            node = ray_node(self.cluster, num_cpus=2, environment=variables, flags=flags)
            try:
                self.node_pid = self._node.enter_context(node)
                return
            except RuntimeError:
                if attempt == NODE_STARTS:
                    raise

    def new_bucket(self) -> Bucket:
        """A bucket of images and of objects that are none."""
        bucket = self._empty_bucket()
        for i in range(NUM_IMAGES):
            bucket.put(key_of(i), original(i))
        for key, (body, _) in BROKEN.items():
            bucket.put(f"in/{key}", body)
        self._ever = bucket.versions()
        return bucket

    def scenario(
        self,
        name: str,
        seed: int,
        plan: Plan,
        meanwhile: Callable[[Driver], list[Fault]] | None = None,
    ) -> Outcome:
        """Run the job on a new bucket under a plan, then undisturbed until all is done.

        Args:
            meanwhile: called beside the disturbed run; returns the faults that it injected.
        """
        outcome, bucket = Outcome(name, seed), self.new_bucket()
        self._run(bucket, outcome, plan, meanwhile)
        end = check_end(bucket, self._reference, self._ever)
        for _ in range(HEALTHY_RUNS):
            if not end.lost:
                break
            self._run(bucket, outcome, Plan())
            if outcome.returncodes[-1] != 0:
                outcome.findings.exit_codes.append("an undisturbed run did not end with 0")
            end = check_end(bucket, self._reference, self._ever)
        outcome.findings.add(end)
        return outcome

    def _run(
        self,
        bucket: Bucket,
        outcome: Outcome,
        plan: Plan,
        meanwhile: Callable[[Driver], list[Fault]] | None = None,
    ) -> None:
        before, rows_before = bucket.versions(), bucket.rows()
        known = set(bucket.reports())
        self.proxy.start(plan)
        driver = self._start(bucket)
        faults = meanwhile(driver) if meanwhile else []
        returncode = driver.wait()
        outcome.runs += 1
        outcome.returncodes.append(returncode)
        outcome.injected += self.proxy.injected + Counter(faults)
        reports = {run: r for run, r in bucket.reports().items() if run not in known}
        found = check_run(
            before,
            final_versions(rows_before),
            bucket.rows(),
            reports,
            returncode=returncode,
            killed=Fault.DRIVER_KILLED in faults and returncode == -signal.SIGKILL,
            max_error_rate=MAX_ERROR_RATE,
        )
        if found:
            print(f"--- {outcome.name}, seed {outcome.seed}, exit code {returncode}")
            print(driver.output()[-4000:], flush=True)
        outcome.findings.add(found)

    def _start(self, bucket: Bucket) -> Driver:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in self._weights.items()]
        flags += [f"--image-size={golden.IMAGE_SIZE}", f"--max-error-rate={MAX_ERROR_RATE}"]
        flags += ["--input", bucket.input, "--output", bucket.output]
        # Many small batches and commits: many moments at which something can go wrong.
        flags += ["--batch-size=2", "--commit-interval-s=0.05"]
        flags += ["--scan-date=2026-01-01"]  # in the keys, on which the faults hang
        command = [sys.executable, "jobs/score_bucket.py", *flags]
        command += ["--address", self.cluster.gcs_address]
        environment = {**os.environ, **self.environment, **self.cluster.environment}
        return Driver(command, environment, self._folder / "driver.log")

    def _empty_bucket(self) -> Bucket:
        name = f"faults-{uuid4().hex[:12]}"
        self._client.create_bucket(Bucket=name)
        return Bucket(self._client, name)

    def _change(self, name: str, key: str, change: Fault) -> None:
        bucket = Bucket(self._client, name)
        if change == Fault.DELETED:
            bucket.delete(key)
        else:
            bucket.put(key, successor(int(Path(key).stem), change))
        self._ever |= bucket.versions()


class Driver:
    """One run of the job in a process of its own."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=file, stderr=file
            )
        self._timeout = threading.Timer(RUN_TIMEOUT_S, self.process.kill)
        self._timeout.start()

    def has_ended(self) -> bool:
        """The run is over, one way or another."""
        return self.process.poll() is not None

    def wait(self) -> int:
        """The exit code; −9 if the run took too long."""
        while not self.has_ended():
            time.sleep(0.05)
        self._timeout.cancel()
        return self.process.returncode

    def output(self) -> str:
        """What the run printed."""
        return self._log.read_text(errors="replace")


@contextmanager
def world(endpoint: str) -> Iterator[World]:
    """A world before an S3 server; the environment holds the credentials."""
    with ExitStack() as stack:
        yield World(endpoint, stack)
