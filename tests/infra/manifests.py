"""The Kubernetes manifests, and the command lines in them and in the runbook."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from pipeline.commands import maintain, nightly, score

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "infra/kuberay"
PARSERS: dict[str, Callable[[list[str]], object]] = {
    "maintain.py": maintain.parse,
    "nightly_scan.py": nightly.parse,
    "score_bucket.py": score.parse,
}


def load(path: Path) -> list[dict[str, Any]]:
    """All documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text()))


MANIFESTS = {path.name: load(path) for path in sorted(KUBERAY.glob("*.yaml"))}


def job_spec(name: str) -> dict[str, Any]:
    """The RayJob spec in a manifest."""
    spec: dict[str, Any] = MANIFESTS[name][0]["spec"]
    return spec.get("jobTemplate", spec)


CLUSTERS = {
    "raycluster.yaml": MANIFESTS["raycluster.yaml"][0]["spec"],
    "rayjob-scan.yaml": job_spec("rayjob-scan.yaml")["rayClusterSpec"],
    "raycronjob-nightly.yaml": job_spec("raycronjob-nightly.yaml")["rayClusterSpec"],
}


def pod_templates(node: Any) -> Iterator[dict[str, Any]]:
    """Every pod template in a manifest: whatever has a spec with containers."""
    if isinstance(node, dict):
        if "containers" in node.get("spec", ()):
            yield node
        for value in node.values():
            yield from pod_templates(value)
    elif isinstance(node, list):
        for value in node:
            yield from pod_templates(value)


def containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    """Its containers, with those that run before."""
    return [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every command in the manifests that starts a job: file name, arguments."""
    for name in ("rayjob-scan.yaml", "raycronjob-nightly.yaml"):
        yield name, shlex.split(job_spec(name)["entrypoint"])
    for name, documents in MANIFESTS.items():
        for document in documents:
            for template in pod_templates(document):
                for container in containers(template):
                    if "command" in container:
                        yield name, [*container["command"], *container.get("args", [])]


def parse_job(arguments: list[str]) -> tuple[str, object]:
    """Parse a command line that runs one of our jobs with that job's own parser.

    Returns:
        The path of the script, and its settings.
    """
    (position,) = (i for i, each in enumerate(arguments) if Path(each).name in PARSERS)
    script = arguments[position]
    assert arguments[position - 1].endswith("python")
    return script, PARSERS[Path(script).name](arguments[position + 1 :])
