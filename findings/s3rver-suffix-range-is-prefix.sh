#!/usr/bin/env bash
# s3rver 3.7.1 (npm): a request for the last bytes is answered with the first ones
#
# Range: bytes=-3 asks for the last three bytes. The answer is 206 with bytes 0-3, four of them, and a
# Content-Range that says so; the body is wrong for whoever trusts the status. bytes=7- is right.
#
# Seen (the object is 0123456789):
#   bytes=2-4: (206, 'bytes 2-4/10', b'234')
#   bytes=7-: (206, 'bytes 7-9/10', b'789')
#   bytes=-3: (206, 'bytes 0-3/10', b'0123')
#
# Expected: 789 and "bytes 7-9/10" (RFC 9110, section 14.1.2). Readers of Parquet, ZIP and TIFF files
# find the index at a file's end, and some ask for it by such a range, to save a look-up of the size.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'boto3==1.44.8'
npm install --silent --no-fund --no-audit s3rver@3.7.1 >npm.log 2>&1 || { cat npm.log; exit 1; }
venv/bin/python - <<'PYTHON'
import random
import socket
import subprocess
import sys
import time

import boto3
from botocore.config import Config

KEY, SECRET = "S3RVER", "S3RVER"


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


port = free_port()
command = ["node_modules/.bin/s3rver", "-d", "root", "-a", "127.0.0.1", "-p", str(port), "--silent"]
process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    s3 = connect()
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="digits", Body=b"0123456789")
    seen = {}
    for wanted in ("bytes=2-4", "bytes=7-", "bytes=-3"):
        got = s3.get_object(Bucket="bucket", Key="digits", Range=wanted)
        status = got["ResponseMetadata"]["HTTPStatusCode"]
        seen[wanted] = (status, got["ContentRange"], got["Body"].read())
        print(f"{wanted}:", seen[wanted])
    if seen["bytes=2-4"] != (206, "bytes 2-4/10", b"234") or seen["bytes=7-"][2] != b"789":
        sys.exit("changed: ranges that were right no longer are")
    if seen["bytes=-3"] != (206, "bytes 0-3/10", b"0123"):
        sys.exit("changed: a suffix range is answered otherwise")
finally:
    process.kill()
    process.wait()
PYTHON
