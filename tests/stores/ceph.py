"""Ceph radosgw with the least below it: one monitor, one OSD in memory, no authentication."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from infra.local import LOCAL_CREDENTIALS

from .processes import free_port, running, wait_for

CONFIG = """
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{monitor}
auth cluster required = none
auth service required = none
auth client required = none
mon allow pool size one = true
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd crush chooseleaf type = 0
run dir = {folder}
pid file = {folder}/$name.pid
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
mon data = {folder}/mon
osd data = {folder}/osd
keyring = {folder}/keyring
osd objectstore = memstore
memstore device bytes = 1073741824
rgw frontends = beast endpoint=127.0.0.1:{port}
"""


@contextmanager
def radosgw() -> Iterator[dict[str, str]]:
    """Yields the variables that point clients at it. Debian: radosgw, ceph-mon, ceph-osd."""
    port, monitor, fsid = free_port(), free_port(), str(uuid4())
    with tempfile.TemporaryDirectory(prefix="ceph-", dir="/tmp") as folder:
        conf = Path(folder, "ceph.conf")
        conf.write_text(CONFIG.format(folder=folder, fsid=fsid, monitor=monitor, port=port))
        Path(folder, "keyring").touch()
        Path(folder, "osd").mkdir()
        given = ["-c", str(conf)]
        monmap = f"{folder}/monmap"
        _call("monmaptool", "--create", "--fsid", fsid, "--addv", "a",
              f"[v1:127.0.0.1:{monitor}]", monmap)  # fmt: skip
        _call("ceph-mon", *given, "-i", "a", "--mkfs", "--monmap", monmap)
        with running(["ceph-mon", *given, "-i", "a", "-f"], folder):
            _call("ceph", *given, "osd", "new", osd := str(uuid4()))
            _call("ceph-osd", *given, "-i", "0", "--mkfs", "--osd-uuid", osd)
            with (
                running(["ceph-osd", *given, "-i", "0", "-f"], folder),
                running(["radosgw", *given, "-n", "client.rgw", "-f"], folder),
            ):
                wait_for(port)
                keys = [f"--access-key={LOCAL_CREDENTIALS['AWS_ACCESS_KEY_ID']}"]
                keys += [f"--secret-key={LOCAL_CREDENTIALS['AWS_SECRET_ACCESS_KEY']}"]
                names = ["--uid=local", "--display-name=local"]
                _call("radosgw-admin", *given, "-n", "client.rgw", "user", "create", *names, *keys)
                yield {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", **LOCAL_CREDENTIALS}


def _call(*command: str) -> None:
    subprocess.run(command, check=True, timeout=120, capture_output=True)
