"""The job that makes references: command line, table and exit codes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipeline.commands.references import exit_code, main, parse, table
from pipeline.distributed.references.sets import Built
from pipeline.output.reference_catalogue import Catalogue, CatalogueEntry, read_catalogue
from tests import golden
from tests.parts import parts

ROOT = Path(__file__).parents[2]


def entry(set_id: str, *, unlabelled: bool) -> CatalogueEntry:
    return CatalogueEntry(
        id=set_id,
        sha256="0" * 64,
        unlabelled=unlabelled,
        num_images=1_234,
        num_looks=2,
        num_looked_at=1_500,
        abnormal_share=0.176,
        created="2026-11-28T20:00:00+00:00",
    )


def built(**changes: object) -> Built:
    """Two categories, one of which was there before."""
    sets = {"bolt": entry("a" * 16, unlabelled=True), "nut": entry("b" * 16, unlabelled=False)}
    found = Built(Catalogue(model="model-1", sets=sets), made=["bolt"], kept=["nut"])
    found.num_looked_at = 100
    for name, value in changes.items():
        setattr(found, name, value)
    return found


# --- command line ---------------------------------------------------------------------------


def test_flags_are_the_settings() -> None:
    flags = ["--input", "a", "--input", "b", "--output", "refs", "--unlabelled", "--add"]
    config = parse([*flags, "--max-images-per-category", "40", "--decoder", "fast"])
    assert (config.input, config.output) == (("a", "b"), "refs")
    assert (config.unlabelled, config.add, config.max_images_per_category) == (True, True, 40)
    assert config.decoder == "fast"
    plain = parse(["--input", "a", "--output", "refs"])
    assert (plain.unlabelled, plain.add) == (False, False)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--output", "refs"], "--input"),
        (["--input", "a"], "--output"),
        (["--input", "a", "--output", ""], "--output is empty"),
        (["--input", "", "--output", "refs"], "--input needs"),
        (["--input", "a", "--output", "refs", "--max-images-per-category", "0"], "--max-images"),
        (["--input", "a", "--output", "refs", "--max-error-rate", "5"], "--max-error-rate"),
        (["--input", "a", "--output", "refs", "--frozen-image-size", "336"], "--frozen-image-size"),
        (["--input", "a", "--output", "s3://user:pass@b/x"], "--output holds a password"),
        (["--input", "a", "--output", "refs", "--refresh-references"], "--refresh-references"),
        (["--input", "a", "--output", "refs", "--precision", "fp8"], "--precision"),
    ],
)
def test_a_wrong_command_line_exits_with_2_and_names_the_flag(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(flags)
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    assert code == 2
    told = capsys.readouterr()
    assert words in " ".join((told.out + told.err).replace("│", " ").split())


# --- table and exit codes -------------------------------------------------------------------


def test_the_table_shows_each_category_and_what_is_missing() -> None:
    failed = {"zip\x1b[2Jper": "none of 2 images can be read"}
    lines = table(built(failed=failed, unusable=Counter(truncated=1_000, empty=1))).splitlines()
    assert lines[0] == "model model-1"
    [bolt] = [line for line in lines if line.startswith("  bolt")]
    [nut] = [line for line in lines if line.startswith("  nut")]
    assert bolt.split()[1:3] == nut.split()[1:3] == ["1,234", "1,500"]
    assert "17.6%" in bolt
    assert bolt.endswith("now")
    assert "17.6%" not in nut  # known to be good
    assert nut.endswith("2026-11-28T20:00:00+00:00")
    assert next(line for line in lines if "zip" in line).endswith("no references")
    assert "  1,000 images can't be used: truncated" in lines
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(
    ("unusable", "allowed", "code"), [(0, 0.0, 0), (5, 0.05, 0), (6, 0.05, 1), (100, 1.0, 0)]
)
def test_the_exit_code_tells_whether_too_many_images_were_unusable(
    unusable: int, allowed: float, code: int, told: list[str]
) -> None:
    found = built(unusable=Counter(empty=unusable))
    assert exit_code(found, allowed) == code
    reason = "6.0% of the images can't be used, more than --max-error-rate 5.0%"
    assert (reason in "".join(told)) == code


def test_a_category_without_references_is_a_failure_that_says_why(
    told: list[str],
) -> None:
    failed = {"zipper": "7 images are too few", "pcb": "none of 2 images can be read"}
    assert exit_code(built(failed=failed), 1.0) == 1
    [line] = told
    assert "'zipper' has no references: 7 images are too few" in line
    assert "'pcb' has no references: none of 2 images can be read" in line


def test_a_category_to_which_nothing_could_be_added_keeps_what_it_has(
    told: list[str],
) -> None:
    found = built(failed={"nut": "none of 2 images can be read"}, kept=[])
    assert exit_code(found, 1.0) == 1
    assert told == ["nothing was added to 'nut': none of 2 images can be read"]
    assert "no references" not in table(found)


# --- the job --------------------------------------------------------------------------------


def test_the_job_writes_what_it_can_and_tells_what_it_can_not(
    golden_files: dict[str, str],
    tmp_path: Path,
    s3: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for category, files in {
        "bolt": parts(0, range(3)),
        "nut": {"a.png": b"no image", "b.png": b""},
    }.items():
        (tmp_path / "good" / category).mkdir(parents=True)
        for name, body in files.items():
            (tmp_path / "good" / category / name).write_bytes(body)
    flags = ["--input", f"{tmp_path}/good", "--output", f"{tmp_path}/references"]
    flags += ["--image-size", str(golden.IMAGE_SIZE), "--address", "local"]
    for name, value in golden_files.items():
        flags += [f"--{name.replace('_', '-')}", value]
    assert main(flags) == 1
    told = capsys.readouterr()
    assert "'nut' has no references: none of 2 images can be read" in told.err
    assert f"references: file://{tmp_path}/references/references.json" in told.out
    assert "  1 images can't be used: empty" in told.out
    found = read_catalogue(f"{tmp_path}/references")
    assert found is not None
    assert {name: each.num_images for name, each in found.sets.items()} == {"bolt": 3}
