#!/usr/bin/env bash
# fastparquet 2026.9.0: half-precision columns come as byte strings, and a zero as an empty one
#
# Parquet's logical type FLOAT16 (two bytes) is read without a warning as Python bytes of its raw
# pattern. On the way they are NumPy byte strings, which drop zero bytes at their end: 0.0 becomes
# b'', in a column as in a list.
#
# Seen (stored: h = 1.5, 0.0 and g = [[1.5, 0.0], [2.0, -0.5]]):
#   h: [b'\x00>', b''] object
#   g: [[b'\x00>', b''], [b'\x00@', b'\x00\xb8']]
#
# Expected: numbers, as pyarrow, DuckDB, Polars and hyparquet read from the same file, or an error.
# The format has had this type since 2023.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'fastparquet==2026.9.0' 'pandas==3.1.1' 'pyarrow==25.0.1' 'numpy==2.4.6'
venv/bin/python - <<'PYTHON'
import sys

import fastparquet
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

half = np.array([1.5, 0.0, 2.0, -0.5], np.float16)
lists = pa.ListArray.from_arrays(pa.array([0, 2, 4], pa.int32()), pa.array(half))
pq.write_table(pa.table({"h": pa.array(half[:2]), "g": lists}), "a.parquet")
read = fastparquet.ParquetFile("a.parquet").to_pandas()
h = read["h"].tolist()
g = [[bytes(each) for each in row] for row in read["g"]]
print("h:", h, read["h"].dtype)
print("g:", g)
if h != [b"\x00>", b""] or g != [[b"\x00>", b""], [b"\x00@", b"\x00\xb8"]]:
    sys.exit("changed: fastparquet reads half precision otherwise")
PYTHON
