"""Tables of the reference pages, made from the code they describe, as Markdown.

``python -m infra.docs.reference`` writes them into the pages in ``docs/``, each between
``<!-- generated: NAME -->`` and ``<!-- end -->``; a test says when that is due.
"""

from __future__ import annotations

import dataclasses
import html
import re
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.config import (
    BenchmarkConfig,
    BuildReferencesConfig,
    CalibrateConfig,
    Compact,
    DemoConfig,
    DoctorConfig,
    EvaluateConfig,
    ImagesConfig,
    ModelConfig,
    NightlyConfig,
    Publish,
    ScoreConfig,
    TrainConfig,
    Vacuum,
)
from pipeline.config.page import PageConfig
from pipeline.config.submit import SubmitConfig
from pipeline.nightly.alerts import AlertRule
from pipeline.nightly.scans import FLAGS
from pipeline.output.lock_owner import Owner
from pipeline.output.snapshot import Journal
from pipeline.schema import (
    FINAL_ERRORS,
    LABELLED_SCHEMA,
    MANIFEST_SCHEMA,
    MAP_SCHEMA,
    PARTITION_COLUMN,
    SCORE_SCHEMA,
    ErrorCode,
)
from pipeline.usage import attribute_docs

from . import formats, published, readers

ROOT = Path(__file__).parents[2]
COMMAND = "python -m infra.docs.reference"
_OPENING = re.compile(r"^<!-- generated: (?P<name>[\w-]+) -->$", re.MULTILINE)
_BLOCK = re.compile(_OPENING.pattern + r"(?:(?!<!--).)*^<!-- end -->$", re.MULTILINE | re.DOTALL)
_ARROW_NAMES = {"float": "float32", "halffloat": "float16"}
_KINDS = {str: "text", int: "whole number", float: "number", bool: "switch"}


class UndocumentedError(ValueError):
    """Something that the reference must explain has no docstring."""


def columns(schema: Iterable[Any]) -> str:
    """Name, Arrow type and meaning of every column of a schema.

    Raises:
        UndocumentedError: a column without a ``doc`` in its metadata.
    """
    rows = []
    for field in schema:
        doc = (field.metadata or {}).get(b"doc", b"").decode()
        if not doc:
            raise UndocumentedError(f"pipeline/schema.py says nothing of the column {field.name}")
        rows.append((f"`{field.name}`", f"`{arrow_name(field.type)}`", prose(doc)))
    return table(("column", "Arrow type", "meaning"), rows)


def arrow_name(kind: pa.DataType) -> str:
    """A type as its constructor in pyarrow is called, such as ``list<float16>``."""
    if pa.types.is_dictionary(kind):
        return f"dictionary<{arrow_name(kind.index_type)}, {arrow_name(kind.value_type)}>"
    if pa.types.is_list(kind):
        return f"list<{arrow_name(kind.value_type)}>"
    return _ARROW_NAMES.get(str(kind), str(kind))


def error_codes() -> str:
    """Every error code, what it means, and whether another run tries the image again."""
    docs = explained(ErrorCode)
    rows = [(f"`{code}`", prose(docs[code.name]), _again(code)) for code in ErrorCode]
    return table(("error", "meaning", "tried again by the next run"), rows)


def _again(code: ErrorCode) -> str:
    if code == ErrorCode.TOO_LARGE:
        return "only if `--max-megapixels` allows its size by then"
    if code == ErrorCode.UNSUPPORTED_MODE:
        return "no, but for what needs an extra that was installed since"
    return "no: final for these bytes" if code in FINAL_ERRORS else "yes: it may pass"


def object_fields(kind: type) -> str:
    """Name and meaning of every field of a dataclass that is written as a JSON object."""
    docs = explained(kind)
    rows = [(f"`{each.name}`", prose(docs[each.name])) for each in _fields(kind)]
    return table(("field", "meaning"), rows)


def scan_keys() -> str:
    """The scoring job's settings that scans.yaml may hold, each a link to its explanation."""
    kinds = (ModelConfig, ImagesConfig, ScoreConfig)  # each shows what the ones before don't
    places = {each.name: kind for kind in reversed(kinds) for each in _fields(kind)}
    names = [each.name for each in _fields(ScoreConfig) if each.name not in FLAGS]
    links = [f"[`{name}`](#{_anchor(places[name], name)})" for name in names]
    return ", ".join(links) + "."


def settings(kind: type, *, beside: type | None = None, flags: bool = True) -> str:
    """Every setting of a dataclass with its type, default and docstring, as a table.

    Args:
        beside: a base class whose settings are left out, unless they mean something else here.
        flags: as command-line flags, else as keys of a YAML file.
    """
    inherited = {each.name for each in _fields(beside)} - {*kind.__annotations__} if beside else ()
    docs, types = explained(kind), typing.get_type_hints(kind)
    rows = []
    for each in _fields(kind):
        if each.name in inherited:
            continue
        names = _flags(each) if flags else f"`{each.name}`"
        place = f'<span id="{_anchor(kind, each.name)}"></span>'
        about = _kind(types[each.name]), _default(each), prose(docs[each.name])
        rows.append((f"{place}{names}", *about))
    return table(("flag" if flags else "key", "type", "default", "meaning"), rows)


def explained(kind: type) -> dict[str, str]:
    """The docstrings below a dataclass's fields or an enumeration's members.

    Raises:
        UndocumentedError: one has none.
    """
    found = attribute_docs(kind)
    names = getattr(kind, "__members__", None) or getattr(kind, "_fields", None)
    names = names or [each.name for each in _fields(kind)]
    for name in names:
        if name not in found:
            raise UndocumentedError(f"{kind.__module__}.{kind.__name__}.{name} has no docstring")
    return found


def prose(text: str) -> str:
    """A docstring as Markdown on one line: its own characters stay, names and flags are code."""
    parts = re.split(r"(``.+?``|--[a-z][a-z-]*[a-z])", " ".join(text.split()))
    for i, part in enumerate(parts):
        plain = re.sub(r"([\\`*_{}\[\]|])", r"\\\1", html.escape(part, quote=False))
        parts[i] = f"`{part.strip('`')}`" if i % 2 else plain
    return "".join(parts)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _anchor(kind: type, name: str) -> str:
    return f"{kind.__name__}.{name}".lower()


def _fields(kind: type) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(kind)


def _flags(each: dataclasses.Field[Any]) -> str:
    name = each.name.rstrip("_").replace("_", "-")
    if "Positional" in str(each.type):
        return f"`{name.upper()}`"
    if each.type == "bool":
        return f"`--{name}`, `--no-{name}`"
    return f"`--{name}`"


def _kind(annotation: Any) -> str:
    """A type in words."""
    arguments = typing.get_args(annotation)
    match typing.get_origin(annotation):
        case None:
            return _KINDS[annotation]
        case typing.Literal:
            return " or ".join(f"`{value}`" for value in arguments)
        case origin if origin is tuple:
            one = _kind(arguments[0])
            return f"{one}, may be repeated" if ... in arguments else f"{len(arguments)} {one}s"
        case origin if origin is Mapping:
            return f"one for each category ({_kind(arguments[1])})"
    chosen = [each for each in arguments if each is not type(None)]
    return ", or ".join(_kind(each) for each in chosen)


def _default(each: dataclasses.Field[Any]) -> str:
    if each.default_factory is not dataclasses.MISSING and each.name == "scan_date":
        return "today"
    if each.default is dataclasses.MISSING:
        return "required"
    value = each.default
    if value is None or value == () or value == "":
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def image_files() -> str:
    """Every kind of image and what becomes of it."""
    header = ("file", "without a range", "with `--gray-range`", "needs", "`frames`")
    return table(header, [(prose(words), *cells) for words, *cells in formats.table()])


def reader_verdicts() -> str:
    """Every reader of docs/readers.md and what it needs."""
    header = (
        *("reader", "version", "rows of all nights", "older files beside newer ones"),
        *("maps", "half-float maps, before 0.2"),
    )
    return table(header, readers.table())


def listing(path: str, language: str) -> str:
    """A file as it stands."""
    return f"```{language}\n{(ROOT / path).read_text().strip()}\n```"


def notebook(path: str) -> str:
    """A script of ``# %%`` cells as Markdown: text cells as they are, the others as Python."""
    cells = re.split(r"^# %%(.*)\n", (ROOT / path).read_text(), flags=re.MULTILINE)[1:]
    parts = []
    for kind, body in zip(cells[::2], cells[1::2], strict=True):
        if kind.strip() == "[markdown]":
            parts.append(
                "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.splitlines())
            )
        else:
            parts.append(f"```python\n{body.strip()}\n```")
    return "\n\n".join(parts)


# What a page may hold, by name.
TABLES: dict[str, Callable[[], str]] = {
    "score-columns": lambda: columns([*SCORE_SCHEMA, PARTITION_COLUMN]),
    "map-columns": lambda: columns(MAP_SCHEMA),
    "manifest-columns": lambda: columns(MANIFEST_SCHEMA),
    "labelled-columns": lambda: columns(LABELLED_SCHEMA),
    "error-codes": error_codes,
    "image-files": image_files,
    "lock-fields": lambda: object_fields(Owner),
    "journal-fields": lambda: object_fields(Journal),
    "model-settings": lambda: settings(ModelConfig),
    "images-settings": lambda: settings(ImagesConfig, beside=ModelConfig),
    "score-settings": lambda: settings(ScoreConfig, beside=ImagesConfig),
    "train-settings": lambda: settings(TrainConfig, beside=ModelConfig),
    "doctor-settings": lambda: settings(DoctorConfig, beside=ImagesConfig),
    "demo-settings": lambda: settings(DemoConfig),
    "evaluate-settings": lambda: settings(EvaluateConfig, beside=ModelConfig),
    "calibrate-settings": lambda: settings(CalibrateConfig, beside=ImagesConfig),
    "benchmark-settings": lambda: settings(BenchmarkConfig, beside=ModelConfig),
    "nightly-settings": lambda: settings(NightlyConfig),
    "page-settings": lambda: settings(PageConfig),
    "compact-settings": lambda: settings(Compact),
    "references-settings": lambda: settings(BuildReferencesConfig, beside=ImagesConfig),
    "submit-settings": lambda: settings(SubmitConfig),
    "vacuum-settings": lambda: settings(Vacuum),
    "publish-settings": lambda: settings(Publish),
    "scan-keys": scan_keys,
    "scans-example": lambda: listing("infra/scans.example.yaml", "yaml"),
    "bucket-to-decision": lambda: notebook("docs/notebooks/bucket_to_decision.py"),
    "readers": reader_verdicts,
    "published": lambda: table(("engine", "version", "Delta", "Iceberg"), published.table()),
    **{
        f"reader-{Path(each.script).stem}": partial(readers.snippet, each)
        for each in readers.READERS
    },
    "alert-keys": lambda: settings(AlertRule, flags=False),
}


def filled(text: str) -> str:
    """A page with what stands between its markers made anew.

    Raises:
        ValueError: a marker names no table, or has no end.
    """
    for opening in _OPENING.finditer(text):
        if opening["name"] not in TABLES:
            raise ValueError(f"there is no table {opening['name']}; known are {', '.join(TABLES)}")
    whole = {block["name"] for block in _BLOCK.finditer(text)}
    for opening in _OPENING.finditer(text):
        if opening["name"] not in whole:
            raise ValueError(f"the table {opening['name']} has no <!-- end --> behind it")

    def made(block: re.Match[str]) -> str:
        name = block["name"]
        return f"<!-- generated: {name} -->\n\n{TABLES[name]()}\n\n<!-- end -->"

    return _BLOCK.sub(made, text)


def main() -> int:
    """Rewrite the pages that are not current, and name them; returns the exit code."""
    for path in sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text()
        if (current := filled(text)) != text:
            path.write_text(current)
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
