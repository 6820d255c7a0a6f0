"""The runbook's commands are ones that work on what is here, and every alert is explained."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise

import pytest
from ray.dashboard.modules.job.cli import job_cli_group

from tests.infra.manifests import KUBERAY, MANIFESTS, PARSERS, ROOT, load, parse_job

RUNBOOK = (ROOT / "docs/runbook.md").read_text()
VARIABLES = (ROOT / "infra/terraform/variables.tf").read_text()


def commands() -> Iterator[list[str]]:
    """Every command of the runbook's shell blocks, as its words."""
    for block in re.findall(r"^ *```bash\n(.*?)^ *```", RUNBOOK, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


COMMANDS = list(commands())


def after(word: str) -> list[list[str]]:
    """What follows a word, in every command that has it."""
    return [words[words.index(word) + 1 :] for words in COMMANDS if word in words]


def test_commands_of_jobs_are_ones_that_the_real_parsers_take() -> None:
    parsed = [
        parse_job(words)[0]
        for words in COMMANDS
        if any(word.rpartition("/")[2] in PARSERS for word in words)
    ]
    assert len(parsed) == 5
    for script in parsed:
        assert (ROOT / script.removeprefix("/app/")).is_file()


def test_flags_that_the_text_names_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for parse in PARSERS.values():
        for arguments in (["--help-all"], ["compact", "--help-all"], ["vacuum", "--help-all"]):
            with pytest.raises(SystemExit):
                parse(arguments)
    known = capsys.readouterr().out
    for flag in re.findall(r"`(--[a-z-]+)[^`]*`", RUNBOOK):
        assert flag in known


def test_files_that_it_names_are_there() -> None:
    named = set(re.findall(r"(?:infra|jobs|docs)/[\w./-]*\w", RUNBOOK))
    assert len(named) > 10
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    for name in MANIFESTS:
        assert str((KUBERAY / name).relative_to(ROOT)) in named


def test_python_and_ray_commands_parse() -> None:
    scripts = [words[1] for words in after("python") if words[0] == "-c"]
    assert len(scripts) == 1
    compile(scripts[0], "runbook", "exec")
    ray_jobs = after("ray")
    assert [words[:2] for words in ray_jobs] == [["job", "list"], ["job", "stop"]]
    for words in ray_jobs:
        command = job_cli_group.commands[words[1]]
        command.make_context(words[1], words[2:])


def test_terraform_gets_every_variable_that_has_no_default() -> None:
    declared = dict(re.findall(r'variable "(\w+)" \{\n(.*?)\n\}', VARIABLES, re.DOTALL))
    (apply,) = (words for words in after("terraform") if "apply" in words)
    given = {words.partition("=")[0] for flag, words in pairwise(apply) if flag == "-var"}
    assert given == {name for name, body in declared.items() if "default" not in body}
    assert set(re.findall(r"-var (\w+)=", RUNBOOK)) <= declared.keys()


def test_secrets_have_the_names_and_keys_that_manifests_look_for() -> None:
    made = {
        words[1]: re.search(r"--from-file=(\w+)=/dev/stdin", " ".join(words))[1]  # type: ignore[index]
        for words in after("secret")
    }
    cluster = MANIFESTS["raycluster.yaml"][0]["spec"]
    (webhook,) = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["envFrom"]
    scans = MANIFESTS["scans.yaml"][0]["data"]["scans.yaml"]
    assert made == {
        cluster["authOptions"]["secretName"]: "auth_token",
        webhook["secretRef"]["name"]: re.search(r"\$\{(\w+)\}", scans)[1],  # type: ignore[index]
    }


def test_objects_that_it_names_are_in_the_manifests() -> None:
    cronjobs = {
        each["metadata"]["name"]
        for documents in MANIFESTS.values()
        for each in documents
        if each["kind"] == "CronJob"
    }
    assert set(re.findall(r"cronjob[/ ](adaclip-\w+)", RUNBOOK)) <= cronjobs
    assert "ray.io/cluster=" + MANIFESTS["raycluster.yaml"][0]["metadata"]["name"] in RUNBOOK


def test_every_alert_has_a_section_of_its_name() -> None:
    sections = re.findall(r"^### (.+)$", RUNBOOK, re.MULTILINE)
    groups = load(ROOT / "infra/monitoring/alerts.yaml")[0]["spec"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert [rule["alert"] for rule in rules] == sections[: len(rules)]
    for rule in rules:
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
