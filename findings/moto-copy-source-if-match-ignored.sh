#!/usr/bin/env bash
# moto 5.2.5, server: CopySourceIfMatch is ignored, though CopySourceIfNoneMatch is kept
#
# CopyObject with a CopySourceIfMatch that does not hold copies and answers 200. The same server answers
# 412 to the other condition of a copy, and to If-Match of PutObject, GetObject and DeleteObject. So a
# test of code that copies an object only if it is unchanged passes whatever the code does.
#
# Seen:
#   PutObject, If-Match: 412
#   GetObject, If-Match: 412
#   DeleteObject, If-Match: 412
#   CopyObject, If-Match: 200
#   CopyObject, If-None-Match: 412
#   CopyObject, If-None-Match that holds: 200
#
# Expected: 412, as S3's reference of CopyObject says, and as SeaweedFS 4.48 answers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'moto[s3,server]==5.2.5' 'boto3==1.44.8'
venv/bin/python - <<'PYTHON'
import random
import socket
import subprocess
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

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


port = free_port()
command = ["venv/bin/moto_server", "-p", str(port)]
process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    s3 = connect()
    s3.create_bucket(Bucket="bucket")
    etag = s3.put_object(Bucket="bucket", Key="source", Body=b"0123456789")["ETag"]
    wrong = '"00000000000000000000000000000000"'

    def status(call, **options):
        try:
            return call(Bucket="bucket", **options)["ResponseMetadata"]["HTTPStatusCode"]
        except ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"]

    copy = {"Key": "copy", "CopySource": "bucket/source"}
    seen = {
        "PutObject, If-Match": status(s3.put_object, Key="source", Body=b"x", IfMatch=wrong),
        "GetObject, If-Match": status(s3.get_object, Key="source", IfMatch=wrong),
        "DeleteObject, If-Match": status(s3.delete_object, Key="source", IfMatch=wrong),
        "CopyObject, If-Match": status(s3.copy_object, CopySourceIfMatch=wrong, **copy),
        "CopyObject, If-None-Match": status(s3.copy_object, CopySourceIfNoneMatch=etag, **copy),
        "CopyObject, If-None-Match that holds":
            status(s3.copy_object, CopySourceIfNoneMatch=wrong, **copy),
    }
    for name, answer in seen.items():
        print(f"{name}: {answer}")
    if list(seen.values()) == [412] * 5 + [200]:
        sys.exit("changed: CopySourceIfMatch is kept")
    if list(seen.values()) != [412, 412, 412, 200, 412, 200]:
        sys.exit("changed: other conditions are kept or ignored")
finally:
    process.kill()
    process.wait()
PYTHON
