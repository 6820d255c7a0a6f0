#!/usr/bin/env bash
# deltalake 1.6.6 with Daft 0.7.26: after a merge that deletes a row, Daft can't filter the table's strings
#
# A Delta table of two files, one string column. Appended by write_deltalake, Daft reads and filters it. Then
# a merge deletes one row. What delta-rs wrote anew is Parquet with plain UTF-8 strings, but the Arrow schema
# that it embeds says Utf8View, and Daft 0.7.26 refuses that.
#
# Seen:
#   appended: string, Daft finds 3 rows
#   merged:   string_view, Daft: DaftError::ValueError Unsupported Arrow DataType: Utf8View
#
# Expected: rows, as pyarrow, Polars and DuckDB read from the same files: the embedded schema is a hint.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'deltalake==1.6.6' 'pyarrow==25.0.1' 'daft==0.7.26'
DO_NOT_TRACK=true venv/bin/python - <<'PYTHON'
import sys
from pathlib import Path

import daft
import pyarrow as pa
import pyarrow.parquet as pq
from daft import col
from deltalake import DeltaTable, write_deltalake

write_deltalake("table", pa.table({"name": ["a", "b", "c"]}))


def kind():
    (path,) = pa.table(DeltaTable("table").get_add_actions())["path"].to_pylist()
    return str(pq.read_schema(Path("table", path)).field("name").type)


def found():
    try:
        return len(daft.read_deltalake("table").where(col("name") >= "a").to_pydict()["name"])
    except Exception as error:
        return str(error).splitlines()[0]


appended = kind(), found()
print(f"appended: {appended[0]}, Daft finds {appended[1]} rows")
merger = DeltaTable("table").merge(
    pa.table({"name": ["c"]}), "s.name = t.name", source_alias="s", target_alias="t"
)
merger.when_matched_delete().execute()
merged = kind(), found()
print(f"merged:   {merged[0]}, Daft: {merged[1]}")
if appended != ("string", 3):
    sys.exit("changed: what is appended is not read")
if merged[0] != "string_view":
    sys.exit("changed: a merge embeds another type")
if "Utf8View" not in str(merged[1]):
    sys.exit("changed: Daft reads the merged file")
PYTHON
