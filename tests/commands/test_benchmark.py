"""The command line of the benchmark, and the parts that need no Ray, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import command
from pipeline.benchmark import model, run
from pipeline.benchmark.whole_job import TINY
from pipeline.commands import benchmark
from pipeline.commands.benchmark import parse
from pipeline.config import BenchmarkConfig

ROOT = Path(__file__).parents[2]
TINY_MODEL = ["--backbone", TINY, "--backbone-weights", "none", "--checkpoint", "none"]
TINY_MODEL += ["--image-size", "56"]


def test_series_are_repeated_flags() -> None:
    config = parse(["--part", "feeding", "--scorer-rate", "10", "--scorer-rate", "300"])
    assert config.parts == ("feeding",)
    assert config.scorer_rate == (10.0, 300.0)
    assert parse([]).parts == ("model", "job")
    assert parse(["--part", "job", "--images", "1e9"]).images == 1e9


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--batch-size", "0"], "--batch-size"),
        (["--scorer-rate", "0"], "--scorer-rate"),
        (["--num-steps", "0"], "--num-steps"),
        (["--price-per-gpu-hour", "3"], "--images"),
        (["--images", "1e9", "--part", "listing"], "--images"),
        (["--work", "https://user:secret@host/x"], "--work"),
    ],
)
def test_what_can_not_work_exits_with_2_and_names_the_flag(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(flags)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_an_unknown_part_exits_with_2() -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(["--part", "everything"])
    assert stopped.value.code == 2


def test_a_part_is_measured_printed_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "on_scoring_node", lambda _, function, *args: function(*args))
    monkeypatch.setattr(model, "matrix_peak", lambda *_: 1e12)  # a minute of matrix products
    output = tmp_path / "result.json"
    flags = ["--part", "model", *TINY_MODEL, "--num-steps", "1", "--num-threads", "1"]
    assert benchmark.main([*flags, "--output", str(output), "--note", "idle"]) == command.DONE
    document = json.loads(output.read_text())
    assert document["hardware"]["cores"] >= 1
    assert document["versions"]["torch"]
    assert document["settings"]["image_size"] == 56
    assert document["note"] == "idle"
    (result,) = document["results"]["model"]
    assert result["settings"]["batch_size"] == 4
    shown = capsys.readouterr().out
    assert "times the floor" in shown
    assert result["scorer"]["images_per_s"] > 0
    assert result["scorer"]["device_idle"] is None
    assert "an idle share not known" in shown
    assert [row["limited_by"] for row in result["by_cores"]] == ["cores"] * 6
    assert "ms of CPU time each" in shown
    for stage in result["stages"]:
        assert stage in shown


def test_a_part_of_the_driver_asks_nothing_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that holds the only GPU would wait for another without end."""
    monkeypatch.setattr(run, "measure_listing", lambda *_: [])
    nowhere = BenchmarkConfig(part=("listing",), address="127.0.0.1:1")
    assert run.run_benchmark(nowhere)["hardware"]["cores"] >= 1


def test_references_are_measured_and_shown_table_by_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "in_own_process", lambda function, *args: function(*args))
    monkeypatch.setattr(run, "measure_categories", lambda _: [{"order": "shuffled", "loads": 3}])
    flags = ["--part", "references", "--part", "categories", *TINY_MODEL]
    flags += ["--num-steps", "1", "--num-threads", "1", "--num-images", "8"]
    assert benchmark.main(flags) == command.DONE
    shown = capsys.readouterr().out
    for title in ("building", "scoring", "stages"):
        assert f"references: {title}\n" in shown
    for words in (
        "known good",
        "distances, one look",
        "categories\n",
        "shuffled",
    ):
        assert words in shown


def test_what_the_measuring_refuses_exits_with_2_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "on_scoring_node", lambda _, function, *args: function(*args))
    flags = ["--part", "model", *TINY_MODEL, "--prompt-depth", "99"]
    assert benchmark.main(flags) == command.CANNOT_RUN
    assert "prompt_depth=99" in capsys.readouterr().err
