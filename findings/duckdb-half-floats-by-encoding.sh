#!/usr/bin/env bash
# DuckDB 2.0.1: half-precision columns are read or refused by how they are encoded or handed over
#
# A FLOAT16 column in Parquet comes as FLOAT when it is encoded plainly or by dictionary. With
# BYTE_STREAM_SPLIT, which the format allows for it (FIXED_LEN_BYTE_ARRAY) since version 2.11, the
# file is refused. So is the very same column as an Arrow table in memory.
#
# Seen:
#   'plain.parquet': [(1.5, 'FLOAT'), (-2.0, 'FLOAT'), (0.25, 'FLOAT')]
#   'split.parquet': Error: BYTE_STREAM_SPLIT encoding is only supported for FLOAT, DOUBLE, INT32 or INT64 data
#   arrow: NotImplementedException: Not implemented Error: Unsupported Internal Arrow Type e
#
# Expected: one answer for one type. pyarrow 25.0.1, which wrote the file, and Polars 2.1.0 read all
# three.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'duckdb==2.0.1' 'pyarrow==25.0.1' 'polars==2.1.0' 'numpy==2.4.6'
venv/bin/python - <<'PYTHON'
import sys

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

arrow = pa.table({"h": np.array([1.5, -2.0, 0.25], np.float16)})
pq.write_table(arrow, "plain.parquet", use_dictionary=False)
pq.write_table(arrow, "split.parquet", use_dictionary=False,
               column_encoding={"h": "BYTE_STREAM_SPLIT"})


def asked(source):
    try:
        return duckdb.sql(f"SELECT h, typeof(h) FROM {source}").fetchall()
    except duckdb.Error as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


seen = {name: asked(name) for name in ("'plain.parquet'", "'split.parquet'", "arrow")}
for name, answer in seen.items():
    print(f"{name}: {answer}")
for name in ("plain", "split"):
    if pl.read_parquet(f"{name}.parquet")["h"].to_list() != [1.5, -2.0, 0.25]:
        sys.exit("changed: Polars no longer reads both files")
if seen["'plain.parquet'"] != [(1.5, "FLOAT"), (-2.0, "FLOAT"), (0.25, "FLOAT")]:
    sys.exit("changed: plain half precision is read otherwise")
if "BYTE_STREAM_SPLIT" not in seen["'split.parquet'"]:
    sys.exit("changed: DuckDB reads BYTE_STREAM_SPLIT of half precision")
if "Unsupported Internal Arrow Type" not in seen["arrow"]:
    sys.exit("changed: DuckDB reads half precision of Arrow tables")
PYTHON
