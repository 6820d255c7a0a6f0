"""What a person reads on a terminal."""

from __future__ import annotations

import pytest

from pipeline.terminal import clean, duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text", "plain text"),
        ("ünï ✓ 'quoted' \\", "ünï ✓ 'quoted' \\"),
        ("two\nlines\r\tand tab", r"two\nlines\r\tand tab"),
        ("\x1b[31mred\x07\x00", r"\x1b[31mred\x07\x00"),
        ("\x9b31m and \x85", r"\x9b31m and \x85"),
        ("right\u202eleft\u2028", r"right\u202eleft\u2028"),
        ("half \ud800", r"half \ud800"),
        ("", ""),
    ],
)
def test_clean_escapes_what_a_terminal_would_obey(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize("text", ["x" * 10_000, "\x00" * 10_000])
def test_clean_bounds_the_length(text: str) -> None:
    assert len(clean(text)) == 120
    assert clean(text).endswith("…")
    assert len(clean(text, limit=10)) == 10


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (9e5, "10.4 days"),
    ],
)
def test_duration_is_short(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected
