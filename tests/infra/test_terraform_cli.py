"""Terraform's own word on the files, where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import s3_server
from tests.infra.manifests import ROOT

FOLDER = ROOT / "infra/terraform"
# Folders of `terraform providers mirror`, for machines that can't reach the registry.
MIRRORS = (os.environ.get("TERRAFORM_MIRROR", ""), "/opt/tf-plugins")
# A stand-in for AWS has one host name for all buckets and knows no metadata service.
STAND_IN = """
provider "aws" {
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
}
"""
VARIABLES = {
    "region": "us-east-1",
    "input_bucket": "images",
    "create_input_bucket": "true",
    "output_bucket": "results",
    "inventory": "true",
    "oidc_provider_arn": "arn:aws:iam::123456789012:oidc-provider/example.com/id/1",
}

pytestmark = pytest.mark.skipif(
    shutil.which("terraform") is None, reason="terraform is not installed"
)


def terraform(
    folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    return subprocess.run(
        ["terraform", f"-chdir={folder}", *arguments],
        env=variables | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files with their providers."""
    folder = tmp_path_factory.mktemp("terraform")
    for path in FOLDER.glob("*.tf"):
        shutil.copy(path, folder)
    mirror = [f"-plugin-dir={path}" for path in MIRRORS if path and Path(path).is_dir()][:1]
    done = terraform(folder, "init", "-backend=false", "-input=false", *mirror)
    if done.returncode:
        pytest.skip(f"the providers can't be had: {done.stderr[-300:]}")
    return folder


@pytest.fixture
def aws() -> Iterator[dict[str, str]]:
    with s3_server() as environment:
        yield environment


def test_files_are_formatted() -> None:
    done = terraform(FOLDER, "fmt", "-check", "-diff", "-recursive")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_files_are_valid(initialised: Path) -> None:
    done = terraform(initialised, "validate", "-json")
    found = json.loads(done.stdout)
    assert (found["valid"], found["diagnostics"]) == (True, [])


@pytest.mark.slow
def test_a_new_account_gets_both_buckets_both_roles_and_the_inventory(
    initialised: Path, aws: dict[str, str]
) -> None:
    (initialised / "override.tf").write_text(STAND_IN)
    flags = [f"-var={name}={value}" for name, value in VARIABLES.items()]
    planned = terraform(initialised, "plan", "-input=false", "-out=plan", *flags, **aws)
    assert planned.returncode == 0, planned.stderr
    shown = json.loads(terraform(initialised, "show", "-json", "plan").stdout)
    managed = [each for each in shown["resource_changes"] if each["mode"] == "managed"]
    changes = {each["address"]: each["change"] for each in managed}
    assert all(change["actions"] == ["create"] for change in changes.values())
    assert {
        'aws_s3_bucket.input["images"]',
        "aws_s3_bucket.output",
        'aws_iam_role.account["adaclip-scan"]',
        'aws_iam_role.account["adaclip-maintenance"]',
        "aws_s3_bucket_inventory.images[0]",
    } <= set(changes)
    trust = changes['aws_iam_role.account["adaclip-scan"]']["after"]["assume_role_policy"]
    assert "system:serviceaccount:adaclip:adaclip-scan" in trust
