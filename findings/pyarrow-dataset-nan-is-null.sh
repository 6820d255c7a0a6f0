#!/usr/bin/env bash
# pyarrow 25.0.1: is_null(nan_is_null=True) on a Parquet dataset finds no NaN beside numbers
#
# The filter is documented to take NaN for null. On a dataset of Parquet files it is first asked of
# each row group's statistics, which count nulls but not NaN: with none of the former, the group is
# skipped. The same filter on the same table in memory finds the rows.
#
# Seen (the rows 1 and 5 of 0..5 are NaN; row groups of 6, 2 and 1 rows):
#   in memory: is_null(nan_is_null=True) [1, 5], x != 0.5 [1, 2, 3, 4, 5]
#   6        : is_null(nan_is_null=True) [], x != 0.5 [1, 2, 3, 4, 5]
#   2        : is_null(nan_is_null=True) [], x != 0.5 [2, 3, 4, 5]
#   1        : is_null(nan_is_null=True) [1, 5], x != 0.5 [1, 2, 3, 4, 5]
#
# Expected: the same rows from each. x != 0.5, which NaN fulfils, likewise misses row 1 of the file
# with groups of 2, whose first group has 0.5 for minimum and maximum.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'pyarrow==25.0.1' 'numpy==2.4.6'
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

table = pa.table({"id": range(6), "x": np.array([0.5, np.nan, 0.1, 0.2, 0.9, np.nan])})
no_number = ds.field("x").is_null(nan_is_null=True)
other = ds.field("x") != 0.5


def found(source):
    return [source.to_table(filter=each)["id"].to_pylist() for each in (no_number, other)]


seen = {"in memory": found(ds.dataset(table))}
for rows in (6, 2, 1):
    pq.write_table(table, f"{rows}.parquet", row_group_size=rows)
    seen[rows] = found(ds.dataset(f"{rows}.parquet"))
for name, (null, unequal) in seen.items():
    print(f"{name!s:9}: is_null(nan_is_null=True) {null}, x != 0.5 {unequal}")
if seen["in memory"] != [[1, 5], [1, 2, 3, 4, 5]] or seen[1] != seen["in memory"]:
    sys.exit("changed: the filters mean something else")
if seen[6] != [[], [1, 2, 3, 4, 5]] or seen[2] != [[], [2, 3, 4, 5]]:
    sys.exit("changed: what is found depends on row groups in another way, or not at all")
PYTHON
