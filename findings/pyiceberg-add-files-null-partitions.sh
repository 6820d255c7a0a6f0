#!/usr/bin/env bash
# pyiceberg 0.12.0: files of a Hive-partitioned folder are added with null for their partition
#
# Table.add_files registers existing Parquet files in a table that is partitioned by scan_date. The
# files lie in scan_date=... folders and, as Hive and Spark write them, don't hold the column. Nothing
# is said; each row gets scan_date null, both files land in one partition, and a filter by date finds
# no row.
#
# Seen:
#   pyiceberg: [{'id': 0, 'scan_date': None}, {'id': 1, 'scan_date': None}]
#   rows of 2026-01-01: 0
#   pyarrow, the same folder: [{'id': 0, 'scan_date': '2026-01-01'}, {'id': 1, 'scan_date': '2026-01-02'}]
#
# Expected: the value from the folder's name, as Spark's add_files procedure takes it for the same
# layout, or a refusal: a partition field that a file can't tell of is an error for other transforms.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'pyiceberg[sql-sqlite,pyarrow]==0.12.0' 'pyarrow==25.0.1'
venv/bin/python - <<'PYTHON'
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog

here = Path.cwd()
files = []
for i, day in enumerate(("2026-01-01", "2026-01-02")):
    file = here / f"scores/scan_date={day}/part.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"id": pa.array([i])}), file)
    files.append(f"file://{file}")
catalog = SqlCatalog("c", uri=f"sqlite:///{here}/catalog.db", warehouse=f"file://{here}/warehouse")
catalog.create_namespace("n")
table = catalog.create_table("n.scores", pa.schema([("id", pa.int64()), ("scan_date", pa.string())]))
with table.update_spec() as spec:
    spec.add_identity("scan_date")
table.add_files(files)
rows = sorted(table.scan().to_arrow().to_pylist(), key=lambda row: row["id"])
found = table.scan(row_filter="scan_date = '2026-01-01'").to_arrow().num_rows
hive = pq.read_table(here / "scores").to_pylist()
print("pyiceberg:", rows)
print("rows of 2026-01-01:", found)
print("pyarrow, the same folder:", hive)
if [row["scan_date"] for row in hive] != ["2026-01-01", "2026-01-02"]:
    sys.exit("changed: pyarrow reads the folders' names otherwise")
if rows != [{"id": 0, "scan_date": None}, {"id": 1, "scan_date": None}] or found != 0:
    sys.exit("changed: added files no longer have null for their partition")
PYTHON
