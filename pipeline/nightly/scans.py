"""scans.yaml: what the nightly job scans. Everything in it is checked before anything runs."""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import TypeAdapter, ValidationError

from pipeline.calibration import CalibrationError, read_calibration
from pipeline.config import AUTO, Place, ScoreConfig, table_place
from pipeline.errors import CannotRunError
from pipeline.publishing import require_packages
from pipeline.redaction import hide
from pipeline.storage import StorageError, absolute, read_object

from .alerts import AlertRule

NAME = r"[A-Za-z0-9][\w.-]{0,63}"  # of a source: it stands in logs, metrics and tables
# Settings of a night, not of a source: one flag of the job for all of them.
FLAGS = ("address", "log_format", "scan_date", "rescore", "lock_wait_s", "refresh_references")
OWN = ("name", "input", "output", "publish")  # of each source, so no defaults

_scoring = {each.name: each for each in fields(ScoreConfig) if each.name not in FLAGS}
_alert = {each.name: each for each in fields(AlertRule)}
_KEYS = {*_scoring, "name", "alert", "webhook", "compact", "publish"}


class ScansError(ValueError):
    """A scans.yaml that can't be used; every line of the message is one mistake."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One scan of the night."""

    name: str
    config: ScoreConfig
    alert: AlertRule | None = None
    webhook: str | None = field(default=None, repr=False)
    """A secret, as all webhooks' URLs."""
    compact: bool = True
    """Whether the night makes one score file of the many small ones of earlier dates."""
    publish: tuple[Place, ...] = ()
    """Tables that the night brings up to date with the output."""


@dataclass(frozen=True, kw_only=True)
class Scans:
    """What a night scans, in this order."""

    summary: str
    """Folder that receives nightly/<date>-<id>.json."""
    sources: tuple[Source, ...]

    def select(self, names: tuple[str, ...]) -> Scans:
        """Only the sources of these names; all if there are none.

        Raises:
            ScansError: there is no such source.
        """
        known = [source.name for source in self.sources]
        unknown = [f"there is no source {n!r}{_nearest(n, known)}" for n in names if n not in known]
        if unknown:
            raise ScansError("\n".join(unknown))
        chosen = tuple(each for each in self.sources if each.name in names) if names else None
        return replace(self, sources=chosen or self.sources)

    def override(self, **settings: Any) -> Scans:
        """The same scans with other values of some of ``ScoreConfig``'s fields.

        Raises:
            ValueError: a value can't work; the message names its flag.
        """
        changed = (replace(each, config=replace(each.config, **settings)) for each in self.sources)
        return replace(self, sources=tuple(changed))

    def refreshed(self) -> Scans:
        """The same scans, making their own references anew.

        Raises:
            ScansError: none of them has references of its own.
        """
        auto = [each.name for each in self.sources if each.config.references == AUTO]
        if not auto:
            raise ScansError("--refresh-references: no source has references: auto")
        changed = (
            replace(each, config=replace(each.config, refresh_references=each.name in auto))
            for each in self.sources
        )
        return replace(self, sources=tuple(changed))


def load_scans(uri: str) -> Scans:
    """Read and check a scans.yaml, a path or URI.

    Raises:
        ScansError: it can't be read or used. Values of ``${VARIABLES}`` are not quoted.
    """
    try:
        text = read_object(absolute(uri))[0].decode()
        document = yaml.load(text, _Loader)
    except (StorageError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ScansError(f"{uri} can't be read: {error}") from None
    return _Check(uri).scans(document)


class _Check:
    """Builds the scans and collects every mistake with its place on the way."""

    def __init__(self, uri: str) -> None:
        self._uri, self._mistakes = uri, list[str]()

    def scans(self, document: Any) -> Scans:
        given = self._mapping("", document, {"summary", "defaults", "sources"})
        given = self._expanded("", given)
        defaults = self._defaults(given.get("defaults"))
        sources = given.get("sources")
        if not isinstance(sources, list) or not sources:
            self._wrong("sources", "must be a list of at least one source")
            sources = []
        summary = given.get("summary")
        if not isinstance(summary, str) or not summary:
            self._wrong("summary", "is missing: a folder that receives the nights' summaries")
            summary = "summary"
        built = [self._source(i, each, defaults) for i, each in enumerate(sources, 1)]
        found = Scans(summary=summary, sources=tuple(each for each in built if each))
        self._compare(found)
        if self._mistakes:
            raise ScansError("\n".join(f"{self._uri}: {mistake}" for mistake in self._mistakes))
        return found

    def _defaults(self, value: Any) -> dict[str, Any]:
        """Only what is right: a mistake is told here, not again for each source."""
        given = self._mapping("defaults", value, _KEYS - {*OWN})
        settings = self._typed("defaults", {k: v for k, v in given.items() if k in _scoring})
        others = {k: v for k, v in given.items() if k not in _scoring}
        if alert := others.get("alert"):
            alert = self._mapping("defaults.alert", alert, set(_alert))
            others["alert"] = self._typed("defaults.alert", alert, AlertRule)
        return settings | others

    def _source(self, number: int, value: Any, defaults: dict[str, Any]) -> Source | None:
        where = f"sources[{number}]"
        before = len(self._mistakes)
        own = self._mapping(where, value, _KEYS)
        name = own.get("name")
        if not isinstance(name, str) or not re.fullmatch(NAME, name):
            self._wrong(f"{where}.name", "must be a short name of letters, digits, - and _")
        else:
            where = f"source {name}"
        alert = own.get("alert", defaults.get("alert"))
        if isinstance(alert, dict) and isinstance(defaults.get("alert"), dict):
            alert = defaults["alert"] | alert
        merged = defaults | own
        settings = self._typed(where, {k: v for k, v in merged.items() if k in _scoring})
        for key in ("input", "output"):
            if key not in own:
                self._wrong(f"{where}.{key}", "is missing")
        webhook = self._webhook(where, merged.get("webhook"))
        rule = self._alert(where, alert)
        compact = merged.get("compact", True)
        if not isinstance(compact, bool):
            self._wrong(f"{where}.compact", "must be true or false")
        tables = self._tables(where, own.get("publish"))
        if len(self._mistakes) > before:
            return None
        config = self._made(where, ScoreConfig, settings)
        self._thresholds(where, config)
        return config and Source(
            name=str(name),
            config=config,
            alert=rule,
            webhook=webhook,
            compact=compact,
            publish=tables,
        )

    def _alert(self, where: str, value: Any) -> AlertRule | None:
        if value is None or value is False:
            return None
        where, before = f"{where}.alert", len(self._mistakes)
        settings = self._typed(where, self._mapping(where, value, set(_alert)), AlertRule)
        rule = self._made(where, AlertRule, settings) if len(self._mistakes) == before else None
        self._thresholds(where, rule)
        return typing.cast(AlertRule | None, rule)

    def _thresholds(self, where: str, of: AlertRule | ScoreConfig | None) -> None:
        """That there are such; whether of the right model shows when the model is loaded."""
        if of and of.thresholds:
            try:
                read_calibration(of.thresholds)
            except (StorageError, CalibrationError) as error:
                self._wrong(f"{where}.thresholds", f"can't be used: {error}")

    def _webhook(self, where: str, value: Any) -> str | None:
        if not value:
            return None
        if isinstance(value, str):
            hide(value)
            with suppress(ValueError):
                parts = urlsplit(value)
                if parts.scheme in ("http", "https") and parts.hostname:
                    return value
        self._wrong(f"{where}.webhook", "must be a URL that starts with https:// or http://")
        return None

    def _tables(self, where: str, value: Any) -> tuple[Place, ...]:
        places = list[Place]()
        for uri in value if isinstance(value, list) else [value] if value else []:
            try:
                places.append(table_place(str(uri)))
                require_packages(places[-1])
            except (ValueError, CannotRunError) as error:
                self._wrong(f"{where}.publish", str(error))
        return tuple(places)

    def _compare(self, scans: Scans) -> None:
        """Mistakes that only show between sources."""
        names: set[str] = set()
        outputs, tables = dict[str, str](), dict[str, str]()
        nights = f"{absolute(scans.summary)}/nightly"
        for source in scans.sources:
            if source.name in names:
                self._wrong(f"source {source.name}", "has the name of another one")
            names.add(source.name)
            output = absolute(source.config.output)
            if output in outputs:
                self._wrong(
                    f"source {source.name}.output",
                    f"is also that of {outputs[output]}; give each source one of its own",
                )
            outputs.setdefault(output, source.name)
            for place in source.publish:
                if tables.setdefault(place.uri, source.name) != source.name:
                    self._wrong(
                        f"source {source.name}.publish",
                        f"is also that of {tables[place.uri]}; give each source a table of its own",
                    )
            if any(f"{nights}/".startswith(f"{absolute(u)}/") for u in source.config.input):
                self._wrong("summary", f"lies below an input of {source.name}; give another folder")

    def _made(self, where: str, kind: Any, settings: dict[str, Any]) -> Any:
        try:
            return kind(**settings)
        except ValueError as error:
            # The settings' own messages name command-line flags.
            text = re.sub(r"--([a-z][a-z-]+)", lambda m: m[1].replace("-", "_"), str(error))
            self._wrong(where, text)
            return None

    def _typed(self, where: str, given: dict[str, Any], kind: type = ScoreConfig) -> dict[str, Any]:
        """The values that have the type of their field."""
        typed: dict[str, Any] = {}
        for key, value in given.items():
            if kind is ScoreConfig and _scoring[key].type == "tuple[str, ...]":
                # One name need not be a list; a tuple is right already, of the defaults.
                value = tuple(value) if isinstance(value, list | tuple) else (value,)
            try:
                typed[key] = _adapter(kind, key).validate_python(value, strict=True)
            except ValidationError as error:
                # Without the value: it may come from a variable.
                told = {f"{e['msg'][0].lower()}{e['msg'][1:]}" for e in error.errors()}
                self._wrong(f"{where}.{key}", " or ".join(sorted(told)))
        return typed

    def _mapping(self, where: str, value: Any, known: set[str]) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._wrong(where, "must be a mapping of names to values")
            return {}
        for key in value:
            if key in FLAGS:
                flag = f"--{key.replace('_', '-')}"
                self._wrong(_at(where, key), f"is for the whole night; give {flag} to the job")
            elif key not in known:
                self._wrong(_at(where, key), f"is not known{_nearest(str(key), known)}")
        return {key: each for key, each in value.items() if key in known}

    def _expanded(self, where: str, value: Any) -> Any:
        """Strings with ``${NAME}`` replaced by the environment's values."""
        if isinstance(value, dict):
            return {k: self._expanded(_at(where, k), each) for k, each in value.items()}
        if isinstance(value, list):
            return [self._expanded(f"{where}[{i}]", each) for i, each in enumerate(value, 1)]
        if not isinstance(value, str):
            return value

        def of(found: re.Match[str]) -> str:
            if not os.environ.get(found[1]):
                self._wrong(where, f"needs the environment variable {found[1]}, which is not set")
            return os.environ.get(found[1], "")

        return re.sub(r"\$\{(\w+)\}", of, value)

    def _wrong(self, where: str, what: str) -> None:
        self._mistakes.append(f"{where} {what}" if where else f"the file {what}")


class _Loader(yaml.SafeLoader):
    """Refuses a key that comes twice, where YAML's own loader silently takes the second."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping whose keys are distinct."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                mark = node.value[position][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} comes twice", mark)
        return super().construct_mapping(node, deep)


@cache
def _adapter(kind: type, key: str) -> TypeAdapter[Any]:
    return TypeAdapter(typing.get_type_hints(kind)[key])


def _at(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _nearest(name: str, known: typing.Iterable[str]) -> str:
    found = get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
