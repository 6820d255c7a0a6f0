#!/usr/bin/env bash
# Daft 0.7.26: the first file decides a partition column's type, and what doesn't fit becomes null
#
# With hive_partitioning=True the type is guessed from the first file's folder alone. Later values that
# can't be cast to it become null, without a warning. The same two files in the other order keep both.
# Read by a pattern, such as scores/**, the order is whatever the look-up of the files gave.
#
# Seen:
#   ['2026-01-01', 'unknown'] -> Date: ['2026-01-01', None]
#   ['unknown', '2026-01-01'] -> String: ['unknown', '2026-01-01']
#   ['1', '1.5'] -> Int64: ['1', None]
#   ['1.5', '1'] -> Float64: ['1.5', '1.0']
#
# Expected: a type that holds all values (text, or 1.0 and 1.5), as pyarrow 25.0.1, DuckDB 2.0.1 and
# Polars 2.1.0 find for these folders in any order, or an error.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'daft==0.7.26' 'pyarrow==25.0.1'
export DO_NOT_TRACK=true
venv/bin/python - <<'PYTHON'
import os
import sys

import daft
import pyarrow as pa
import pyarrow.parquet as pq


def file(value):
    os.makedirs(f"k={value}", exist_ok=True)
    pq.write_table(pa.table({"id": [1]}), f"k={value}/part.parquet")
    return f"{os.getcwd()}/k={value}/part.parquet"


def read(values):
    frame = daft.read_parquet([file(value) for value in values], hive_partitioning=True)
    kept = [None if each is None else str(each) for each in frame.to_pydict()["k"]]
    print(f"{values} -> {frame.schema()['k'].dtype}: {kept}")
    return kept


asked = [["2026-01-01", "unknown"], ["unknown", "2026-01-01"], ["1", "1.5"], ["1.5", "1"]]
seen = [sorted(map(str, read(values))) for values in asked]
if seen[1] != ["2026-01-01", "unknown"] or seen[3] != ["1.0", "1.5"]:
    sys.exit("changed: orders that kept all values lose some")
if seen[0] != ["2026-01-01", "None"] or seen[2] != ["1", "None"]:
    sys.exit("changed: values that don't fit the first one's type are kept")
sys.stdout.flush()
os._exit(0)  # Daft's own threads may still run
PYTHON
