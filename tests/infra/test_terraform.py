"""The Terraform files: parsed, and their policies tried on an S3 server that enforces them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import hcl2
import pytest
import requests

from infra.local import s3_server
from tests.bucket import jpeg
from tests.infra.manifests import MANIFESTS, ROOT

PLAIN = hcl2.SerializationOptions(
    with_comments=False, explicit_blocks=False, strip_string_quotes=True
)
VALUES = {
    "${local.input_arn}": "arn:aws:s3:::images",
    "${local.output_arn}": "arn:aws:s3:::results",
}


def blocks(kind: str) -> dict[tuple[str, str], dict[str, Any]]:
    """All resources or data sources by type and name."""
    found = {}
    for path in sorted((ROOT / "infra/terraform").glob("*.tf")):
        for block in hcl2.loads(path.read_text(), serialization_options=PLAIN).get(kind, []):
            for type_, named in block.items():
                found |= {(type_, name): body for name, body in named.items()}
    return found


RESOURCES, DATA = blocks("resource"), blocks("data")
POLICIES = {
    name: body for (type_, name), body in DATA.items() if type_ == "aws_iam_policy_document"
}


def policy(name: str) -> str:
    """A policy document as AWS gets it, for the buckets images and results."""

    def filled(text: str) -> str:
        for reference, value in VALUES.items():
            text = text.replace(reference, value)
        assert "${" not in text
        return text

    statements = [
        {
            "Sid": each["sid"],
            "Effect": "Allow",
            "Action": each["actions"],
            "Resource": [filled(resource) for resource in each["resources"]],
        }
        for each in POLICIES[name]["statement"]
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.mark.parametrize("bucket", ["input", "output"])
def test_buckets_are_versioned_encrypted_and_never_public(bucket: str) -> None:
    versioning = RESOURCES["aws_s3_bucket_versioning", bucket]
    assert versioning["versioning_configuration"] == [{"status": "Enabled"}]
    encryption = RESOURCES["aws_s3_bucket_server_side_encryption_configuration", bucket]
    (rule,) = encryption["rule"]
    assert rule["apply_server_side_encryption_by_default"] == [{"sse_algorithm": "AES256"}]
    access = RESOURCES["aws_s3_bucket_public_access_block", bucket]
    blocked = {name: value for name, value in access.items() if "public" in name}
    assert len(blocked) == 4
    assert {str(value).lower() for value in blocked.values()} == {"true"}
    rules = RESOURCES["aws_s3_bucket_lifecycle_configuration", bucket]["rule"]
    assert any("noncurrent_version_expiration" in rule for rule in rules)
    assert any("abort_incomplete_multipart_upload" in rule for rule in rules)
    assert {type_ for type_, name in RESOURCES if name == bucket} >= {"aws_s3_bucket"}


def test_no_results_expire() -> None:
    for rule in RESOURCES["aws_s3_bucket_lifecycle_configuration", "output"]["rule"]:
        for expiration in rule.get("expiration", []):
            inventories = rule["filter"] == [{"prefix": "inventory/"}]
            assert inventories or set(expiration) == {"expired_object_delete_marker"}


def test_no_policy_allows_a_wildcard() -> None:
    for name, body in POLICIES.items():
        for statement in body["statement"]:
            if statement.get("effect") == "Deny":
                continue
            assert all(re.fullmatch(r"\w+:\w+", action) for action in statement["actions"]), name
            for resource in statement.get("resources", []):
                assert resource.count("*") == resource.endswith("/*"), (name, resource)
                assert resource.startswith("${local."), (name, resource)


def test_each_role_trusts_one_account_of_the_manifests() -> None:
    accounts = {each["metadata"]["name"]: each for each in MANIFESTS["accounts.yaml"]}
    (statement,) = POLICIES["trust"]["statement"]
    assert statement["actions"] == ["sts:AssumeRoleWithWebIdentity"]
    sub, aud = statement["condition"]
    assert (sub["test"], aud["test"]) == ("StringEquals", "StringEquals")
    assert sub["values"] == ["system:serviceaccount:${var.namespace}:${each.value}"]
    assert aud["values"] == ["sts.amazonaws.com"]
    roles = {
        re.search(r'\["(.+)"\]', body["role"])[1]  # type: ignore[index]
        for (type_, _), body in RESOURCES.items()
        if type_ == "aws_iam_role_policy"
    }
    annotated = {
        name: each["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
        for name, each in accounts.items()
        if "annotations" in each["metadata"]
    }
    assert {name: arn.rpartition("/")[2] for name, arn in annotated.items()} == {
        role: role for role in roles
    }


# What the jobs do, each line by the function that does it there. But for deletes: S3 asks for
# s3:DeleteObject on each key of a bulk request, moto for the same on the bucket.
ATTEMPTS = """
import json
import boto3
from botocore.exceptions import ClientError
from pipeline.output.lock import OutputLock
from pipeline.storage import StorageError, list_objects, read_object, stat, write_object

def attempt(what):
    try:
        what()
        return "done"
    except StorageError as error:
        return error.code.value
    except ClientError as error:
        return {"AccessDenied": "access_denied"}[error.response["Error"]["Code"]]

def delete(bucket, key):
    boto3.client("s3").delete_object(Bucket=bucket, Key=key)

def lock():
    with OutputLock("s3://results/scans/a", run_id="test"):
        pass

OUTPUT = "s3://results/scans/a"
print(json.dumps({
    "list images": attempt(lambda: list(list_objects("s3://images/line"))),
    "read image": attempt(lambda: read_object("s3://images/line/0.jpg")),
    "miss image": attempt(lambda: stat("s3://images/line/gone.jpg")),
    "write image": attempt(lambda: write_object("s3://images/line/0.jpg", b"")),
    "delete image": attempt(lambda: delete("images", "line/0.jpg")),
    "read weights": attempt(lambda: read_object("s3://results/models/w.pt")),
    "write weights": attempt(lambda: write_object("s3://results/models/w.pt", b"")),
    "read inventory": attempt(lambda: read_object("s3://results/inventory/manifest.json")),
    "lock output": attempt(lock),
    "list output": attempt(lambda: list(list_objects(OUTPUT))),
    "write output": attempt(lambda: write_object(OUTPUT + "/scores/1.parquet", b"rows")),
    "read output": attempt(lambda: read_object(OUTPUT + "/scores/1.parquet")),
    "delete output": attempt(lambda: delete("results", "scans/a/scores/1.parquet")),
}))
"""


@pytest.fixture(scope="module")
def enforcing() -> Iterator[dict[str, dict[str, str]]]:
    """An S3 server that enforces policies; yields the environment of each role."""
    with s3_server() as variables:
        clients = {
            name: boto3.client(
                name,
                endpoint_url=variables["AWS_ENDPOINT_URL"],
                region_name="us-east-1",
                aws_access_key_id="admin",
                aws_secret_access_key="admin",
            )
            for name in ("s3", "iam", "sts")
        }
        for bucket in ("images", "results"):
            clients["s3"].create_bucket(Bucket=bucket)
        clients["s3"].put_object(Bucket="images", Key="line/0.jpg", Body=jpeg(0))
        for key in ("models/w.pt", "inventory/manifest.json"):
            clients["s3"].put_object(Bucket="results", Key=key, Body=b"content")
        environments = {}
        for name in ("scan", "maintenance"):
            # moto takes any trust; whom ours trusts is looked at above.
            trust = json.dumps({"Version": "2012-10-17", "Statement": []})
            role = clients["iam"].create_role(RoleName=name, AssumeRolePolicyDocument=trust)
            clients["iam"].put_role_policy(
                RoleName=name, PolicyName="own", PolicyDocument=policy(name)
            )
            keys = clients["sts"].assume_role(RoleArn=role["Role"]["Arn"], RoleSessionName="test")
            environments[name] = variables | {
                "AWS_ACCESS_KEY_ID": keys["Credentials"]["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": keys["Credentials"]["SecretAccessKey"],
                "AWS_SESSION_TOKEN": keys["Credentials"]["SessionToken"],
            }
        # From now on (0 more unchecked requests) policies count.
        url = f"{variables['AWS_ENDPOINT_URL']}/moto-api/reset-auth"
        requests.post(url, data="0", timeout=10).raise_for_status()
        yield environments


def attempts(environment: dict[str, str]) -> dict[str, str]:
    command = [sys.executable, "-c", ATTEMPTS]
    shown = subprocess.run(
        command, env=os.environ | environment, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert shown.returncode == 0, shown.stderr
    result: dict[str, str] = json.loads(shown.stdout)
    return result


@pytest.mark.slow
def test_a_scan_reads_images_writes_results_and_nothing_else(
    enforcing: dict[str, dict[str, str]],
) -> None:
    assert attempts(enforcing["scan"]) == {
        "list images": "done",
        "read image": "done",
        "miss image": "not_found",
        "write image": "access_denied",
        "delete image": "access_denied",
        "read weights": "done",
        "write weights": "access_denied",
        "read inventory": "done",
        "lock output": "done",
        "list output": "done",
        "write output": "done",
        "read output": "done",
        "delete output": "access_denied",
    }


@pytest.mark.slow
def test_maintenance_rewrites_results_and_sees_no_image(
    enforcing: dict[str, dict[str, str]],
) -> None:
    assert attempts(enforcing["maintenance"]) == {
        "list images": "access_denied",
        "read image": "access_denied",
        "miss image": "access_denied",
        "write image": "access_denied",
        "delete image": "access_denied",
        "read weights": "access_denied",
        "write weights": "access_denied",
        "read inventory": "access_denied",
        "lock output": "done",
        "list output": "done",
        "write output": "done",
        "read output": "done",
        "delete output": "done",
    }
