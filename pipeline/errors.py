"""What ends a command in a sentence instead of a traceback, by its exit code."""

from __future__ import annotations


class CannotRunError(Exception):
    """The command can't be carried out as given; the message says what to change. Exit code 2."""


class ExpectedError(Exception):
    """What may happen to any run; the message tells a user enough. Exit code 1."""
