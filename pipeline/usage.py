"""``--help``: a command's settings as flags, from the dataclass that holds them.

A class tells, in class variables, ``GROUP``, the heading of the flags that it adds; a command's own
class also ``COMMON``, the names of the flags that most people need, and ``EXAMPLE``.
"""

from __future__ import annotations

import ast
import inspect
import shutil
import sys
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Any

HELP, HELP_ALL = ("-h", "--help"), "--help-all"
INDENT, COLUMN, MIN_ROOM, MAX_WIDTH = "  ", 26, 20, 100  # characters
_KINDS = {str: "TEXT", int: "N", float: "X"}


def usage(config: type, program: str, *, complete: bool = False, width: int | None = None) -> str:
    """What ``--help`` prints, or ``--help-all``.

    Args:
        config: a dataclass with docstrings below its fields.
        program: how the command is called.
        complete: all flags and all that is said of them, not only the first sentence of those in
            ``COMMON``.
        width: columns. Default: the terminal's.
    """
    width = min(width or shutil.get_terminal_size().columns, MAX_WIDTH)
    about = inspect.cleandoc(config.__doc__ or "")
    required = [each for each in _flags(config) if _is_required(each)]
    call = " ".join(["usage:", program, *(_flag(each, config) for each in required), "[flags]"])
    lines = [*textwrap.wrap(call, width, subsequent_indent=2 * INDENT), ""]
    for paragraph in about.split("\n\n")[: None if complete else 1]:
        lines += [*textwrap.wrap(paragraph, width), ""]
    for title, group in _groups(config, complete=complete):
        lines.append(f"{title}:")
        for each in group:
            lines += _described(each, config, width, complete=complete)
        lines.append("")
    if example := getattr(config, "EXAMPLE", ""):
        lines += ["example:", *(INDENT + line for line in example.split("\n")), ""]
    if not complete:
        lines.append(f"{program} {HELP_ALL} explains all {len(_flags(config))} flags.")
    return "\n".join(lines).rstrip("\n")


def choices(configs: Mapping[str, type], program: str) -> str:
    """What ``--help`` prints of a command with subcommands."""
    firsts = {name: inspect.cleandoc(kind.__doc__ or "") for name, kind in configs.items()}
    lines = [f"{INDENT}{name:<12}{text.splitlines()[0]}" for name, text in firsts.items()]
    names = "|".join(configs)
    return "\n".join([f"usage: {program} {names} [flags]", "", *lines])


@cache
def attribute_docs(kind: type) -> dict[str, str]:
    """The docstrings below the attributes of a class, those of its bases included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.split(".")[0] in sys.stdlib_module_names:
            continue
        [body] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for above, below in zip(body.body, body.body[1:], strict=False):
            match above, below:
                case (
                    ast.AnnAssign(target=ast.Name(name)) | ast.Assign(targets=[ast.Name(name)]),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = inspect.cleandoc(text)
    return found


def _flags(config: type) -> list[Field[Any]]:
    """The fields that are arguments."""
    return [each for each in fields(config) if "Suppress" not in str(each.type)]


def _groups(config: type, *, complete: bool) -> Iterator[tuple[str, list[Field[Any]]]]:
    """Headings and their flags: required ones, then the command's own, then its bases'."""
    required = [each for each in _flags(config) if _is_required(each)]
    rest = [each for each in _flags(config) if not _is_required(each)]
    if required:
        yield "required", required
    if not complete:
        title = "often used" if hasattr(config, "COMMON") else "flags"
        yield title, [each for each in _common(config) if each not in required]
        return
    titles = dict.fromkeys(_group(each, config) for each in reversed(rest))
    for title in titles:
        yield title, [each for each in rest if _group(each, config) == title]


def _common(config: type) -> list[Field[Any]]:
    known = {each.name: each for each in _flags(config)}
    return [known[name] for name in getattr(config, "COMMON", " ".join(known)).split()]


def _group(each: Field[Any], config: type) -> str:
    """The heading of the class that first had the field."""
    owner = next(k for k in reversed(config.__mro__) if each.name in inspect.get_annotations(k))
    return str(vars(owner).get("GROUP", "this command"))


def _described(each: Field[Any], config: type, width: int, *, complete: bool) -> list[str]:
    """A flag and what it means, as lines."""
    text = " ".join(attribute_docs(config)[each.name].split())
    if not complete:
        text = text.split(". ")[0].rstrip(".")
    elif (default := _default(each)) and "Default:" not in text:
        text += f" Default: {default}."
    head, column = INDENT + _flag(each, config), COLUMN if width > 2 * COLUMN else len(3 * INDENT)
    room = max(width - column, MIN_ROOM)
    wrapped = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
    lines = [" " * column + line for line in wrapped]
    beside = len(head) <= column - 2
    return [head.ljust(column) + wrapped[0], *lines[1:]] if beside else [head, *lines]


def _flag(each: Field[Any], config: type) -> str:
    name = each.name.rstrip("_").replace("_", "-")
    if "Positional" in str(each.type):
        return name.upper()
    annotation = typing.get_type_hints(config)[each.name]
    if annotation is bool:
        return f"--{name}, --no-{name}" if each.default else f"--{name}"
    return f"--{name} {_kind(annotation)}"


def _kind(annotation: Any) -> str:
    """What stands behind a flag."""
    arguments = [each for each in typing.get_args(annotation) if each not in (type(None), ...)]
    if typing.get_origin(annotation) is typing.Literal:
        return "|".join(str(each) for each in arguments)
    if typing.get_origin(annotation) is tuple and len(arguments) > 1:
        return " ".join(_kind(each) for each in arguments)
    return _KINDS.get(annotation) or "|".join(_kind(each) for each in arguments)


def _is_required(each: Field[Any]) -> bool:
    return each.default is MISSING and each.default_factory is MISSING


def _default(each: Field[Any]) -> str:
    if each.default in (MISSING, None, (), "") or isinstance(each.default, bool):
        return ""
    return f"{each.default:g}" if isinstance(each.default, float) else str(each.default)


def asks(arguments: Sequence[str]) -> str | None:
    """Which help a command line asks for, if any."""
    return next((each for each in arguments if each in (*HELP, HELP_ALL)), None)
