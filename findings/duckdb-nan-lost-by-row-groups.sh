#!/usr/bin/env bash
# DuckDB 2.0.1: which rows hold NaN depends on how a Parquet file is cut into row groups
#
# DuckDB orders NaN above every number: x > 0.6 holds for it, and max() gives it. Parquet's
# statistics leave NaN out (the format says so). DuckDB takes them for the whole truth: where a row
# group has a number beside its NaN, isnan(x) finds no row, max(x) gives the number, and x > 0.6
# finds the NaN or not, by what else is in the group.
#
# Seen (the rows 0..5 are 0.5, NaN, 0.1, 0.2, 0.9, NaN; rows 1 and 5 are NaN, rows 1, 4, 5 above 0.6):
#   in memory: isnan(x) [1, 5], x > 0.6 [1, 4, 5], max(x) nan
#   6        : isnan(x) [], x > 0.6 [1, 4, 5], max(x) 0.9
#   2        : isnan(x) [], x > 0.6 [4, 5], max(x) 0.9
#   1        : isnan(x) [1, 5], x > 0.6 [1, 4, 5], max(x) nan
#
# Expected: the answer of the table in memory, however the file is cut: the format's description
# says that readers must reckon with NaN that minimum and maximum don't tell of. Polars 2.1.0 gives
# one answer for all three files.
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

values = np.array([0.5, np.nan, 0.1, 0.2, 0.9, np.nan])
rows_held = pa.table({"id": range(6), "x": values})


def answers(source):
    def ids(condition):
        return sorted(row[0] for row in duckdb.sql(f"SELECT id FROM {source} WHERE {condition}").fetchall())

    largest = duckdb.sql(f"SELECT max(x) FROM {source}").fetchall()[0][0]
    return ids("isnan(x)"), ids("x > 0.6"), str(largest)


seen = {"in memory": answers("rows_held")}
for rows in (6, 2, 1):
    pq.write_table(rows_held, f"{rows}.parquet", row_group_size=rows)
    seen[rows] = answers(f"'{rows}.parquet'")
    lazy = pl.scan_parquet(f"{rows}.parquet")
    found = lazy.filter(pl.col("x").is_nan()).collect()["id"].to_list()
    if sorted(found) != [1, 5]:
        sys.exit("changed: Polars no longer finds every NaN")
for name, (nan, above, largest) in seen.items():
    print(f"{name!s:9}: isnan(x) {nan}, x > 0.6 {above}, max(x) {largest}")
if seen["in memory"] != ([1, 5], [1, 4, 5], "nan") or seen[1] != seen["in memory"]:
    sys.exit("changed: DuckDB orders NaN otherwise")
if seen[6] != ([], [1, 4, 5], "0.9") or seen[2] != ([], [4, 5], "0.9"):
    sys.exit("changed: DuckDB's answers depend on row groups in another way, or not at all")
PYTHON
