"""A URI that carries a credential is refused by every command, and printed by none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.commands import (
    calibrate,
    evaluate,
    maintain,
    nightly,
    references,
    score,
    train,
)
from pipeline.commands import report as page
from pipeline.results import open_results

CANARY = "canarypassword0123456789"
URI = f"s3://user:{CANARY}@bucket/folder"


@pytest.mark.parametrize(
    ("main", "flags"),
    [
        (score.main, ["--input", URI, "--output", "out"]),
        (score.main, ["--input", "in", "--output", URI]),
        (score.main, ["--input", "in", "--output", "out", "--references", URI]),
        (references.main, ["--input", URI, "--output", "out"]),
        (calibrate.main, ["--scores", URI, "--output", "out"]),
        (evaluate.main, ["--data", URI, "--output", "out"]),
        (train.main, ["--data", "in", "--output", URI]),
        (nightly.main, ["--config", URI]),
        (maintain.main, ["compact", "--output", URI]),
        (maintain.main, ["vacuum", "--output", URI]),
        (page.main, [URI]),
        (page.main, ["out", "--html", URI]),
    ],
)
def test_a_command_line_with_a_credential_is_refused_and_not_repeated(
    main: Callable[[list[str]], int], flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    output = capsys.readouterr()
    assert stopped.value.code == 2
    assert "holds a password" in " ".join(output.err.split())
    assert CANARY not in output.out + output.err


def test_results_of_a_uri_with_a_credential_are_not_opened() -> None:
    with pytest.raises(ValueError, match="holds a password") as refused:
        open_results(URI)
    assert CANARY not in str(refused.value)
