"""OpenStack Swift with s3api: a proxy, and one account, container and object server."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .processes import free_port, running, wait_for

PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = root
swift_dir = {folder}
[pipeline:main]
pipeline = catch_errors cache s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""

BACKEND = """
[DEFAULT]
devices = {folder}/devices
mount_check = false
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = root
swift_dir = {folder}
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""


@contextmanager
def swift() -> Iterator[dict[str, str]]:
    """Yields the variables that point clients at it.

    Debian: swift-proxy, swift-account, swift-container, swift-object, memcached.
    """
    port, memcached = free_port(), free_port()
    # Object servers keep metadata in extended attributes, which not every /tmp has.
    with tempfile.TemporaryDirectory(prefix="swift-", dir="/var/tmp") as folder, ExitStack() as on:
        # Read from /etc alone, and the same for all servers.
        Path("/etc/swift").mkdir(exist_ok=True)
        Path("/etc/swift/swift.conf").write_text(
            "[swift-hash]\nswift_hash_path_suffix = a\nswift_hash_path_prefix = b\n"
        )
        Path(folder, "devices", "d1").mkdir(parents=True)
        on.enter_context(running(["memcached", "-u", "root", "-p", str(memcached)], folder))
        for kind in ("account", "container", "object"):
            backend = free_port()
            conf = Path(folder, f"{kind}.conf")
            conf.write_text(BACKEND.format(folder=folder, port=backend, kind=kind))
            ring = f"{folder}/{kind}.builder"
            _call("swift-ring-builder", ring, "create", "4", "1", "0")
            _call("swift-ring-builder", ring, "add", f"r1z1-127.0.0.1:{backend}/d1", "1")
            _call("swift-ring-builder", ring, "rebalance")
            on.enter_context(running([f"swift-{kind}-server", str(conf)], folder))
            wait_for(backend)
        conf = Path(folder, "proxy-server.conf")
        conf.write_text(PROXY.format(folder=folder, port=port, memcached=memcached))
        on.enter_context(running(["swift-proxy-server", str(conf)], folder))
        wait_for(port)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test:tester",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def _call(*command: str) -> None:
    subprocess.run(command, check=True, timeout=60, capture_output=True)
