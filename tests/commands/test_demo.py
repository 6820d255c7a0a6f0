"""The demonstration, as a new user starts it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pipeline.commands.__main__ import main
from pipeline.results import open_results


def test_a_demonstration_scores_what_it_draws_and_shows_the_worst(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--folder", str(tmp_path / "d")]) == 0
    rows = open_results(str(tmp_path / "d" / "scores")).scores()
    assert len(rows) == 24
    assert set(rows.category) == {"metal nut", "plug"}
    assert Image.open(tmp_path / "d" / "most_anomalous.png").size[0] == 320
    told = capsys.readouterr().out
    assert "metal nut                             12" in told
    assert told.rstrip().endswith("most_anomalous.png")


@pytest.mark.parametrize("folder", ["", "s3://bucket/demo"])
def test_the_folder_is_one_of_this_machine(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--folder", folder])
    assert ended.value.code == 2
    assert "--folder" in capsys.readouterr().err


def test_bench_is_short_for_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    assert "usage: adaclip benchmark" in capsys.readouterr().out
