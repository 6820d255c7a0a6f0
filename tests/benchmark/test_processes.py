"""CPU time of processes, looked up from outside."""

from __future__ import annotations

import subprocess
import sys
import time

from pipeline.benchmark.processes import ProcessTree

# A child that computes for a fifth of a second of CPU time, ends, and is waited for by its parent.
CHILD = "import time\nwhile time.process_time() < 0.2: pass\nprint('done', flush=True)\ninput()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}]); input()"


def test_what_is_below_a_process_counts_and_stays_when_it_ended() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=pipe, stdout=pipe) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        tree = ProcessTree(parent.pid)
        assert parent.stdout.readline() == b"done\n"
        tree.look()
        assert len(tree.processes) == 2
        assert tree.cpu_s >= 0.15  # seen in hundredths
        before, (busiest, *_) = tree.cpu_s, tree.processes
        assert busiest.name.startswith("-c import time")
        assert not busiest.loads_pytorch
        parent.stdin.write(b"\n")
        parent.stdin.flush()
        time.sleep(0.1)
        tree.look()
        assert len(tree.processes) == 2
        assert tree.cpu_s >= before
        parent.stdin.write(b"\n")
