"""What --help prints."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Annotated, ClassVar, Literal

import pytest
import tyro

from pipeline import config as configs
from pipeline.command import CANNOT_RUN, DONE, parse, parse_one_of
from pipeline.usage import HELP_ALL, attribute_docs, usage

COMMANDS = {
    name: kind
    for name in configs.__all__
    if isinstance(kind := getattr(configs, name), type) and hasattr(kind, "EXAMPLE")
}
ONE_SCREEN = 45  # lines


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where it is."""

    GROUP: ClassVar = "place"

    address: str | None = None
    """Which one. Default: the nearest."""


@dataclass(frozen=True, kw_only=True)
class Paint(Where):
    """Paint a wall.

    It may take two coats.
    """

    COMMON: ClassVar = "colour"
    EXAMPLE: ClassVar = "paint WALL --colour red"

    wall: tyro.conf.Positional[str]
    """The wall."""
    colour: Literal["red", "blue"] = "red"
    """The paint. Any other has to be ordered."""
    size_: Annotated[float, tyro.conf.arg(name="size")] = 1.5
    """Metres."""
    primer: bool = True
    """Begin with a primer."""
    sheets: tuple[str, ...] = ()
    """To cover the floor. Repeat for more."""
    coats: int = field(default_factory=lambda: 2)
    """How many."""
    hidden: tyro.conf.Suppress[str] = ""
    """Not a flag."""


def test_the_short_help_has_what_most_people_need() -> None:
    assert usage(Paint, "paint", width=60).splitlines() == [
        "usage: paint WALL [flags]",
        "",
        "Paint a wall.",
        "",
        "required:",
        "  WALL                    The wall",
        "",
        "often used:",
        "  --colour red|blue       The paint",
        "",
        "example:",
        "  paint WALL --colour red",
        "",
        "paint --help-all explains all 7 flags.",
    ]


def test_the_long_help_has_everything_by_group_with_defaults() -> None:
    text = usage(Paint, "paint", complete=True, width=60)
    assert "It may take two coats." in text
    assert re.findall(r"^(\w[\w ]*):$", text, re.MULTILINE) == [
        *("required", "this command", "place", "example"),
    ]
    assert "Any other has to be\n                          ordered. Default: red." in text
    assert "  --size X                Metres. Default: 1.5." in text
    assert "  --primer, --no-primer   Begin with a primer." in text
    assert "  --address TEXT          Which one. Default: the nearest." in text
    assert "hidden" not in text


@pytest.mark.parametrize("kind", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("width", [40, 80, 200])
def test_every_command_explains_all_its_flags_at_any_width(kind: type, width: int) -> None:
    docs = attribute_docs(kind)
    assert {each.name for each in fields(kind)} <= docs.keys()
    short, full = (
        usage(kind, "adaclip x", width=width),
        usage(kind, "x", complete=True, width=width),
    )
    assert len(short) < len(full)
    prose = full.split("\nexample:")[0].splitlines()
    long = [line for line in prose if len(line) > width]
    assert all(len(line.split()) <= 4 for line in long), "but for words that can't be broken"
    if width == 80:
        assert len(short.splitlines()) <= ONE_SCREEN


def test_help_ends_with_0_and_a_subcommand_that_is_missing_with_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for flag in ("-h", "--help", HELP_ALL):
        with pytest.raises(SystemExit) as ended:
            parse(Paint, "paint", ["--colour", flag])
        assert ended.value.code == DONE
        assert "usage: adaclip paint WALL" in capsys.readouterr().out
    for arguments, code in (([], CANNOT_RUN), (["scrub"], CANNOT_RUN), (["--help"], DONE)):
        with pytest.raises(SystemExit) as ended:
            parse_one_of({"paint": Paint, "where": Where}, "wall", arguments)
        assert ended.value.code == code
        told = capsys.readouterr()
        assert "  paint       Paint a wall." in told.out + told.err
    assert parse_one_of({"paint": Paint}, "wall", ["paint", "north"]).wall == "north"
