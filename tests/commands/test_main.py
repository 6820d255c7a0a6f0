"""``adaclip``: every command by its name; a wrong flag is told before Ray or PyTorch are loaded."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from pipeline.commands.__main__ import COMMANDS, main

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


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_explains_itself_as_adaclip_does(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert f"adaclip {name}" in " ".join(capsys.readouterr().out.split())


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
