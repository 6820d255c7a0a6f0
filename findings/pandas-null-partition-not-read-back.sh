#!/usr/bin/env bash
# pandas 3.1.1 with pyarrow 25.0.1: a partition column with an empty cell is written, not read back
#
# DataFrame.to_parquet(partition_cols=...) puts rows whose partition value is missing into the
# folder k=__HIVE_DEFAULT_PARTITION__, as Hive does. read_parquet of the same folder then raises.
# pyarrow's own read_table gives the rows with null.
#
# Seen:
#   written: ['k=__HIVE_DEFAULT_PARTITION__', 'k=a']
#   pyarrow.parquet.read_table: [{'id': 1, 'k': 'a'}, {'id': 2, 'k': None}]
#   pandas.read_parquet: ArrowInvalid: Cannot yet unify dictionaries with nulls
#
# Expected: the frame that was written. The same frame without the missing value comes back, and so
# does one with it when no partition_cols are given.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'pandas==3.1.1' 'pyarrow==25.0.1'
venv/bin/python - <<'PYTHON'
import os
import sys

import pandas as pd
import pyarrow.parquet as pq

frame = pd.DataFrame({"id": [1, 2], "k": ["a", None]})
frame.to_parquet("out", partition_cols=["k"])
frame.dropna().to_parquet("whole", partition_cols=["k"])
print("written:", sorted(os.listdir("out")))
rows = sorted(pq.read_table("out").to_pylist(), key=lambda row: row["id"])
print("pyarrow.parquet.read_table:", rows)
if rows != [{"id": 1, "k": "a"}, {"id": 2, "k": None}]:
    sys.exit("changed: pyarrow reads the folder otherwise")
if pd.read_parquet("whole")["k"].tolist() != ["a"]:
    sys.exit("changed: pandas no longer reads partitions without missing values")
try:
    pd.read_parquet("out")
except Exception as error:
    print(f"pandas.read_parquet: {type(error).__name__}: {error}")
    if "dictionaries with nulls" not in str(error):
        sys.exit("changed: pandas raises another error")
else:
    sys.exit("changed: pandas reads back what it wrote")
PYTHON
