"""Every reader of docs/readers.md on one real output: ``python -m infra.docs.readers [NAME...]``.

Each script of ``docs/readers/`` runs in an environment of its own, with the versions given here,
and what it read is compared with what was written. The verdicts go to
``docs/readers/verdicts.json``, of which ``infra.docs.reference`` makes the page's table. Needs Java
17 and Node 20, and about six minutes, most of them for installing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import reader_output
from .reader_cells import ASKED, cells

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "docs/readers"
VERDICTS = SCRIPTS / "verdicts.json"
CELLS = Path(__file__).with_name("reader_cells.py")
NEW_COLUMN = "score_logit"
PYARROW = "pyarrow==26.0.1"
NODE = ".mjs"


@dataclass(frozen=True)
class Reader:
    """A library that opens an output."""

    name: str
    script: str
    """File in ``docs/readers/``."""
    packages: tuple[str, ...]
    """As pip or npm take them, the reader itself first; without a version: installed with the
    development tools, as in ``constraints.txt``."""
    needs: str
    """So that files of older versions and newer ones open together; Markdown."""
    maps: str
    """How a score row leads to its map; Markdown."""

    @property
    def light(self) -> bool:
        """Whether it is installed with the development tools."""
        return "==" not in self.packages[0] and not self.script.endswith(NODE)


ONE = "one shard, then its row"
NEWEST_FIRST = "files listed newest first"
READERS = (
    Reader("pandas", "pandas.py", ("pandas",), NEWEST_FIRST, ONE),
    Reader("PyArrow", "pyarrow.py", ("pyarrow",), NEWEST_FIRST, ONE),
    Reader(
        "Polars",
        "polars.py",
        ("polars",),
        f'{NEWEST_FIRST} and `missing_columns="insert"`',
        "one shard, then `slice`",
    ),
    Reader(
        "DuckDB",
        "duckdb.py",
        ("duckdb",),
        "`union_by_name = true`",
        "joined by `filename` and `file_row_number`",
    ),
    Reader(
        "ClickHouse",
        "clickhouse.py",
        ("chdb==4.4.0",),
        "`schema_inference_mode = 'union'`",
        "joined by `_path` and `_row_number`",
    ),
    Reader(
        "Spark",
        "spark.py",
        ("pyspark==4.3.0",),
        "`mergeSchema`",
        "joined by `_metadata.file_path` and `row_index`",
    ),
    Reader("DataFusion", "datafusion.py", ("datafusion==55.0.0", PYARROW), "nothing", ONE),
    Reader("Daft", "daft.py", ("daft==0.7.26", "pyarrow==25.0.1"), NEWEST_FIRST, ONE),
    Reader(
        "delta-rs",
        "deltalake.py",
        ("deltalake==1.6.6", PYARROW),
        "nothing",
        "by `image_id`, of a night without compaction",
    ),
    Reader(
        "PyIceberg",
        "iceberg.py",
        ("pyiceberg[sql-sqlite,pyarrow]==0.12.0", PYARROW),
        "rows appended, not `add_files`",
        ONE,
    ),
    Reader(
        "fastparquet",
        "fastparquet.py",
        ("fastparquet==2026.9.0", "pandas==3.1.1", "numpy==2.4.6"),
        f"{NEWEST_FIRST}, by absolute paths",
        ONE,
    ),
    Reader(
        "hyparquet",
        "hyparquet.mjs",
        ("hyparquet@1.33.0", "hyparquet-compressors@1.1.2"),
        "nothing: a row is an object",
        "one shard, `rowStart` and `rowEnd`",
    ),
)


def verdict(reader: Reader, work: Path) -> dict[str, Any]:
    """Install a reader below ``work`` unless it is light, let it read a new output, and judge.

    Raises:
        subprocess.CalledProcessError: it can't be installed, or ends without an answer.
    """
    reader_output.make(work)
    if reader.script.endswith(NODE):
        answer = _from_node(reader, work)
    else:
        packages = () if reader.light else reader.packages
        answer = answer_of(SCRIPTS / reader.script, packages, work)
    return {"reader": reader.name, "version": _version(reader), **judged(answer)}


def judged(answer: dict[str, Any]) -> dict[str, Any]:
    """What a reader says beside what was written.

    Returns:
        ``scores``: whether counts of all nights are right; ``plain``: what becomes of new columns
        without the option ("there", "missing" or an error); ``maps``: how many grids are equal;
        ``half``: what old half floats are read as ("numbers", "other values" or an error).
    """
    counted = {
        night: [*each, each[0] if night in reader_output.WITH_LOGIT else 0]
        for night, each in reader_output.NIGHTS.items()
    }
    nights = {
        str(night)[:10]: [int(n) for n in counts] for night, *counts in answer.get("nights", ())
    }
    true = reader_output.grids()
    found = list(dict(answer.get("grids", ())).items())
    wrong = [uri for uri, grid in found if grid != true[uri]]
    doubled = len(found) != len(answer.get("grids", ()))
    columns = answer.get("columns", ())
    half = answer.get("half")
    return {
        "scores": nights == counted,
        "plain": answer.get("plain error") or ("there" if NEW_COLUMN in columns else "missing"),
        "maps": 0 if wrong or doubled else len(found),
        "half": answer.get("half error")
        or ("numbers" if half in true.values() else "other values"),
    }


def answer_of(
    script: Path, packages: Sequence[str], work: Path, variables: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What the cells of a Python script leave behind (``reader_cells``), run in a folder.

    Args:
        packages: installed below the folder; none = those of the development tools.
        variables: added to the environment.

    Raises:
        subprocess.CalledProcessError: they can't be installed, or the script's process died.
    """
    python = sys.executable
    if packages:
        subprocess.run([sys.executable, "-m", "venv", work / "venv"], check=True)
        python = str(work / "venv/bin/python")
        subprocess.run([python, "-m", "pip", "install", "-qq", *packages], check=True)
    answer = work / "answer.json"
    # Not the path of the project's packages, and nothing that calls home.
    own = {"PYTHONPATH": "", "DO_NOT_TRACK": "true", **(variables or {})}
    subprocess.run(
        [python, "-P", CELLS, script, answer], cwd=work, env={**os.environ, **own}, check=True
    )
    told: dict[str, Any] = json.loads(answer.read_text())
    return told


def _from_node(reader: Reader, work: Path) -> dict[str, Any]:
    subprocess.run(["npm", "install", "--silent", *reader.packages], cwd=work, check=True)
    parts = cells((SCRIPTS / reader.script).read_text())
    names = ", ".join(name for part in parts for name in ASKED.get(part, ()))
    code = "\n".join(parts.values())
    (work / "read.mjs").write_text(f"{code}\nconsole.log(JSON.stringify({{ {names} }}));\n")
    done = subprocess.run(
        ["node", "read.mjs"], cwd=work, check=True, stdout=subprocess.PIPE, text=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _version(reader: Reader) -> str:
    package = reader.packages[0]
    return version(package) if reader.light else package.replace("@", "==").partition("==")[2]


def table() -> list[tuple[str, ...]]:
    """The rows of the page's table.

    Raises:
        ValueError: a reader has no verdict yet.
    """
    verdicts = {each["reader"]: each for each in json.loads(VERDICTS.read_text())}
    if missing := [each.name for each in READERS if each.name not in verdicts]:
        raise ValueError(f"no verdict on {', '.join(missing)}: run python -m infra.docs.readers")
    return [_row(each, verdicts[each.name]) for each in READERS]


def _row(reader: Reader, found: dict[str, Any]) -> tuple[str, ...]:
    package = reader.packages[0].replace("@", "==").partition("==")[0].partition("[")[0]
    without = {"there": "", "missing": "; else new columns are missing"}
    return (
        reader.name,
        f"{package} {found['version']}",
        "all" if found["scores"] else "**wrong**",
        reader.needs + without.get(found["plain"], f"; else {_kind(found['plain'])}"),
        reader.maps if found["maps"] else "**not read**",
        found["half"] if found["half"] in ("numbers", "other values") else _kind(found["half"]),
    )


def _kind(error: str) -> str:
    return f"an error (`{error.partition(':')[0]}`)"


def snippet(reader: Reader) -> str:
    """The cells of a script that the page shows, as Markdown."""
    language = "javascript" if reader.script.endswith(NODE) else "python"
    shown = cells((SCRIPTS / reader.script).read_text())
    return f"```{language}\n{shown['scores'].strip()}\n\n{shown['maps'].strip()}\n```"


def main(names: Iterable[str]) -> int:
    """Run all readers, or those named, and keep the verdicts; 1 if one doesn't read the scores."""
    names = {*names}
    kept = {each["reader"]: each for each in json.loads(VERDICTS.read_text())}
    for reader in READERS:
        if names and reader.name not in names:
            continue
        with tempfile.TemporaryDirectory() as work:
            kept[reader.name] = verdict(reader, Path(work))
        print(kept[reader.name], flush=True)
        VERDICTS.write_text(json.dumps([*kept.values()], indent=2) + "\n")
    return 0 if all(each["scores"] and each["maps"] for each in kept.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
