"""What every job's frame tells, and where."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import logs
from pipeline.command import CANNOT_RUN, FAILED, fail, parse, run
from pipeline.config import ScoreConfig

LOG = logging.getLogger("pipeline.scan")


def test_text_goes_to_people_without_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    LOG.info("listing")
    assert fail("bad \x1b[2J key\nremedy", FAILED) == FAILED
    output = capsys.readouterr()
    assert output.out == "listing\n"
    assert output.err == "error: bad \\x1b[2J key\nremedy\n"


def test_json_goes_to_standard_error_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", run_id="r", source="s")
    LOG.info("listing")
    LOG.warning("random\nweights")
    fail("bad", FAILED)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [
        ("INFO", "listing"),
        ("WARNING", "random\nweights"),
        ("ERROR", "bad"),
    ]
    assert {(line["run_id"], line["source"]) for line in lines} == {("r", "s")}


def test_settings_that_cannot_work_end_a_job_before_ray_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def prepare() -> None:
        raise ValueError("--limit is 0")

    assert run(prepare, lambda job: 0, goes_on="") == CANNOT_RUN
    assert capsys.readouterr().err == "error: --limit is 0\n"


def test_what_a_terminal_cannot_show_is_escaped() -> None:
    """A progress line with a middle dot, on a terminal that knows ASCII only."""
    code = (
        "import logging\n"
        "from pipeline.command import fail, run\n"
        "from pipeline.config import ScoreConfig\n"
        "made = lambda: ScoreConfig(input=('a',), output='b')\n"
        "def work(job):\n"
        "    logging.getLogger('pipeline').info('3 · größe')\n"
        "    return fail('größe', 1)\n"
        "raise SystemExit(run(made, work, goes_on=''))"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "3 \\xb7 gr\\xf6\\xdfe\n")
    assert ended.stderr.endswith("error: gr\\xf6\\xdfe\n")


def test_what_may_not_be_meant_is_said_before_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    config = ScoreConfig(input=("a",), output="b", image_size=336)
    assert run(lambda: config, lambda *_: 0, goes_on="") == 0
    assert "warning: --image-size 336: ViT-L-14-336 is used at 518" in capsys.readouterr().err


def test_a_pattern_that_the_shell_has_replaced_is_explained(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.jpg" for i in range(3)]
    for each in files:
        each.touch()
    given = ["--input", *map(str, files), "--output", "o"]
    with pytest.raises(ValueError, match=r"--input is followed by 3 files.* --include \"\*\.jpg\""):
        parse(ScoreConfig, "score", given)
    assert parse(ScoreConfig, "score", ["--input", str(files[0]), "--output", "o"]).output == "o"
