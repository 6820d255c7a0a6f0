#!/usr/bin/env bash
# deltalake 1.6.6: is_deltatable and history let no other thread run while they wait for the store
#
# DeltaTable.is_deltatable asks a server that never answers, for two seconds. Meanwhile another thread
# of the process is to count every 50 ms. It does not get a turn: the call holds the interpreter's lock
# through its requests. Opening the same table, DeltaTable(...), releases it. DeltaTable.history holds
# it as well; only is_deltatable is shown here, which needs no table.
#
# Seen:
#   is_deltatable: 2.0 s, 0 turns of the other thread
#   DeltaTable():  2.0 s, 39 turns of the other thread
#
# Expected: the lock released around input and output, as in DeltaTable(...). A web server or a heartbeat
# in the same process stands still for as long as the store takes, up to minutes of retries.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'deltalake==1.6.6' 'pyarrow==25.0.1'
venv/bin/python - <<'PYTHON'
import socket
import sys
import threading
import time

from deltalake import DeltaTable

silent = socket.create_server(("127.0.0.1", 0), backlog=64)
options = {
    "aws_endpoint_url": f"http://127.0.0.1:{silent.getsockname()[1]}",
    "aws_access_key_id": "x",
    "aws_secret_access_key": "x",
    "aws_region": "us-east-1",
    "allow_http": "true",
    "timeout": "2s",
    "max_retries": "0",
}
turns = 0


def count():
    global turns
    while True:
        time.sleep(0.05)
        turns += 1


def turns_during(call):
    before, started = turns, time.monotonic()
    try:
        call()
    except Exception:
        pass
    return turns - before, time.monotonic() - started


threading.Thread(target=count, daemon=True).start()
asked, asked_s = turns_during(lambda: DeltaTable.is_deltatable("s3://bucket/table", options))
opened, opened_s = turns_during(lambda: DeltaTable("s3://bucket/table", storage_options=options))
print(f"is_deltatable: {asked_s:.1f} s, {asked} turns of the other thread")
print(f"DeltaTable():  {opened_s:.1f} s, {opened} turns of the other thread")
if opened < 10:
    sys.exit("changed: DeltaTable() no longer waits, or holds the lock as well")
if asked_s < 1 or asked > 3:
    sys.exit("changed: is_deltatable no longer waits, or releases the lock")
PYTHON
