"""``adaclip``: every command by its name; a wrong flag is told before Ray or PyTorch are loaded."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.__main__ import COMMANDS, main
from pipeline.config import (
    BenchmarkConfig,
    BuildReferencesConfig,
    CalibrateConfig,
    Compact,
    DemoConfig,
    DoctorConfig,
    EvaluateConfig,
    NightlyConfig,
    ScoreConfig,
    TrainConfig,
    Vacuum,
)
from pipeline.config.page import PageConfig
from pipeline.config.submit import SubmitConfig

ROOT = Path(__file__).parents[2]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    files = {path.stem for path in (ROOT / "pipeline/commands").glob("[a-z]*.py")}
    assert files == COMMANDS.keys()
    assert all(f"  {name} " in shown for name in COMMANDS)


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scores"]) == 2
    assert "there is no command 'scores'" in capsys.readouterr().err


# They draw and train what the repository shows, and are no command of the package.
OF_THE_REPOSITORY = {ROOT / "jobs/demo.py", ROOT / "jobs/make_small_model.py"}
SETTINGS: dict[str, type[Any]] = {
    "demo": DemoConfig,
    "doctor": DoctorConfig,
    "score": ScoreConfig,
    "references": BuildReferencesConfig,
    "nightly": NightlyConfig,
    "evaluate": EvaluateConfig,
    "calibrate": CalibrateConfig,
    "train": TrainConfig,
    "report": PageConfig,
    "maintain compact": Compact,
    "maintain vacuum": Vacuum,
    "benchmark": BenchmarkConfig,
    "submit": SubmitConfig,
}


@pytest.mark.parametrize("command", SETTINGS)
def test_help_names_every_setting(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help-all"])
    assert stopped.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"adaclip {command}" in shown
    for field in fields(SETTINGS[command]):
        if "tyro.conf" not in str(field.type):  # one that stands behind the flags
            assert f"--{field.name.strip('_').replace('_', '-')}" in shown


@pytest.mark.parametrize("job", sorted(set((ROOT / "jobs").glob("*.py")) - OF_THE_REPOSITORY))
def test_a_job_runs_from_the_repository_as_the_command_that_it_calls(job: Path) -> None:
    [called] = re.findall(r"from pipeline\.commands\.(\w+) import main\n", job.read_text())
    assert called in COMMANDS
    shown = subprocess.run(
        [sys.executable, str(job.relative_to(ROOT)), "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.startswith(f"usage: {job.name} ")


def test_the_package_installs_it() -> None:
    [command] = entry_points(group="console_scripts", name="adaclip")
    assert command.load() is main


def test_a_wrong_flag_is_told_before_ray_pytorch_or_pandas_are_loaded() -> None:
    code = (
        "import sys\n"
        "from pipeline.commands.__main__ import main\n"
        "try:\n"
        "    main(['score', '--inputs', 'a', '--output', 'b'])\n"
        "except SystemExit as stopped:\n"
        "    print(stopped.code, [name for name in ('ray', 'torch', 'pandas', 'pyarrow')"
        " if name in sys.modules])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert ended.stdout == "2 []\n"
