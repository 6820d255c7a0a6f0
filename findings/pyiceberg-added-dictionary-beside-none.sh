#!/usr/bin/env bash
# pyiceberg 0.12.0: files with a dictionary column can't be read beside one that lacks the column
#
# Table.add_files takes Parquet files that Arrow wrote from dictionaries, and files without one of the
# table's optional columns. Each kind is read. One of each in a table is added too, and then every scan
# that asks for the column fails: what is missing comes as large_string, what is there as the dictionary
# that Arrow's own schema in the file tells of (Parquet itself knows only strings).
#
# Seen:
#   strings: [{'id': 1, 'label': None}, {'id': 2, 'label': 'a'}]
#   alone: [{'id': 2, 'label': 'a'}]
#   dictionary: ArrowTypeError: Unable to merge: Field label has incompatible types: large_string vs dictionary<values=string, indices=int32, ordered=0>
#
# Expected: the same rows twice. Iceberg has no dictionary type, and the table says string.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'pyiceberg[sql-sqlite,pyarrow]==0.12.0' 'pyarrow==26.0.1'
venv/bin/python - <<'PYTHON'
import logging
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog

logging.disable(logging.WARNING)  # of each dictionary: "will be inferred as string on read"
here = Path.cwd()
catalog = SqlCatalog("c", uri=f"sqlite:///{here}/catalog.db", warehouse=f"file://{here}/warehouse")
catalog.create_namespace("n")
pq.write_table(pa.table({"id": [1]}), here / "lacks.parquet")


def scanned(name, labels, files=("lacks", "has")):
    pq.write_table(pa.table({"id": [2], "label": labels}), here / f"{name}-has.parquet")
    table = catalog.create_table(f"n.{name}", pa.schema([("id", pa.int64()), ("label", pa.string())]))
    paths = {"lacks": here / "lacks.parquet", "has": here / f"{name}-has.parquet"}
    table.add_files([f"file://{paths[each]}" for each in files])
    try:
        found = sorted(table.scan().to_arrow().to_pylist(), key=lambda row: row["id"])
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    print(f"{name}: {found}")
    return found


strings = pa.array(["a"])
both = [{"id": 1, "label": None}, {"id": 2, "label": "a"}]
if scanned("strings", strings) != both:
    sys.exit("changed: files of strings are read otherwise")
if scanned("alone", strings.dictionary_encode(), ["has"]) != both[1:]:
    sys.exit("changed: a file with a dictionary is not read alone")
if "incompatible types" not in str(scanned("dictionary", strings.dictionary_encode())):
    sys.exit("changed: a dictionary column is read beside a file that lacks it")
PYTHON
