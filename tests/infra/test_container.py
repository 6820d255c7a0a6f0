"""The Dockerfile, as far as it can be looked at without building it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from dockerfile_parse import DockerfileParser

from tests.infra.manifests import ROOT

DOCKERFILE = ROOT / "infra/container/Dockerfile"
INSTRUCTIONS = DockerfileParser(fileobj=DOCKERFILE.open("rb")).structure


def values(instruction: str) -> list[str]:
    return [each["value"] for each in INSTRUCTIONS if each["instruction"] == instruction]


def test_the_linter_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    command = [hadolint, "--no-color", "--strict-labels", DOCKERFILE]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_the_last_stage_is_cudas_and_runs_as_nobody_in_particular() -> None:
    assert values("FROM") == ["${CUDA} AS build", "${CUDA}"]
    (base,) = values("ARG")
    assert re.fullmatch(r"CUDA=nvidia/cuda:\d+\.\d+\.\d+-\w+-ubuntu\d+\.\d+", base)
    assert values("USER") == ["1000:1000"]
    last = [each["instruction"] for each in INSTRUCTIONS]
    assert last.index("USER") > max(i for i, name in enumerate(last) if name in ("RUN", "COPY"))


def test_everything_that_pip_installs_is_constrained() -> None:
    installs = [each for run in values("RUN") for each in run.split("&&") if "pip install" in each]
    assert len(installs) == 2
    assert all("constraint" in each.lower() for each in installs)
    assert not re.search(r"index-url|find-links|trusted-host", DOCKERFILE.read_text())


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {
        source
        for value in values("COPY")
        if not value.startswith("--from")
        for source in value.split()[:-1]
    }
    assert copied == allowed
    assert rules[1] == "*"  # all but what the rules after it bring back
    assert all((ROOT / source).exists() for source in copied)


def test_the_step_that_lists_the_dependencies_lists_them(tmp_path: Path) -> None:
    """The Python one-liner of the Dockerfile, run as it stands."""
    (listing,) = (run for run in values("RUN") if "tomllib" in run)
    script = re.search(r"python -c '([^']+)'", listing)
    assert script
    shown = subprocess.run(
        [sys.executable, "-c", script[1]], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    chosen = [each for name in ("formats", "dicom", "iceberg", "delta") for each in extras[name]]
    wanted = [*project["dependencies"], *chosen]
    assert shown.splitlines() == wanted


def test_the_default_command_is_a_job_that_exists() -> None:
    python, script, flag = json.loads(values("CMD")[0])
    assert (python, flag) == ("python", "--help")
    assert (ROOT / script).is_file()
