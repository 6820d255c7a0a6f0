"""What every job's frame tells, and where."""

from __future__ import annotations

import json

import pytest

from pipeline import logs
from pipeline.distributed.entry import CANNOT_RUN, FAILED, Console, run


def test_text_goes_to_people_without_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.say("listing")
    assert console.fail("bad \x1b[2J key\nremedy", FAILED) == FAILED
    output = capsys.readouterr()
    assert output.out == "listing\n"
    assert output.err == "error: bad \\x1b[2J key\nremedy\n"


def test_json_goes_to_standard_error_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", run_id="r", source="s")
    console = Console("json")
    console.say("listing")
    console.warn("random\nweights")
    console.fail("bad", FAILED)
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

    assert run(prepare, lambda job, console: 0, goes_on="") == CANNOT_RUN
    assert capsys.readouterr().err == "error: --limit is 0\n"
