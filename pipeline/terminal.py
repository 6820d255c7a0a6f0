"""What a person reads on a terminal."""

from __future__ import annotations

PROGRESS_INTERVAL_S = 10.0


def clean(text: str, limit: int = 120) -> str:
    """Untrusted text for a terminal: control characters escaped, length bounded."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def counted(number: int, one: str, several: str = "") -> str:
    """A number of things: "1 row", "2 rows"; ``several`` where an s at the end won't do."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 3 * 86_400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} days"


def clean_lines(text: str, limit: int = 240) -> str:
    """``clean`` line by line: tables keep theirs."""
    return "\n".join(clean(line, limit) for line in text.split("\n"))
