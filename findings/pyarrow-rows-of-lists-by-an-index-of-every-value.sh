#!/usr/bin/env bash
# pyarrow 26.0.1: choosing rows of a list column needs several times the memory of its values
#
# filter and take of a column of lists make a position for every value in them first: 4 bytes each in
# a list, 8 in a large_list, in a buffer that grows by doubling. For 2-byte values (quantised vectors,
# half floats, pixels) that is 3.4 and 6.6 times what is chosen, also where every row is. Lists of a
# fixed size and byte strings of the same length need no more than the result.
#
# Seen (10,000 rows of 1,369 16-bit integers, 27 MB, all of them chosen; peak of a memory pool of
# the call's own, in bytes for each byte of the result):
#   list            filter 3.4  take 3.4
#   large_list      filter 6.6  take 6.6
#   fixed_size_list filter 1.0  take 1.0
#   binary          filter 1.0  take 1.0
#
# Expected: about the result's bytes, as of the other two. Choosing a few hundred rows at a time
# keeps it small.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'pyarrow==26.0.1' 'numpy==2.4.6'
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import pyarrow as pa

ROWS, LENGTH = 10_000, 1_369
values = pa.array(np.arange(ROWS * LENGTH).astype(np.int16))
ends = np.arange(ROWS + 1) * LENGTH
columns = {
    "list": pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values),
    "large_list": pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), values),
    "fixed_size_list": pa.FixedSizeListArray.from_arrays(values, LENGTH),
    "binary": pa.array([bytes(2 * LENGTH)] * ROWS),
}
every_row, positions = pa.array([True] * ROWS), pa.array(np.arange(ROWS))
default = pa.default_memory_pool()
pools = []  # they must outlive what was taken from them


def times(choose):
    pools.append(pa.proxy_memory_pool(default))
    pa.set_memory_pool(pools[-1])
    try:
        chosen = choose()
        return round(pools[-1].max_memory() / chosen.nbytes, 1)
    finally:
        pa.set_memory_pool(default)


seen = {}
for name, column in columns.items():
    seen[name] = times(lambda: column.filter(every_row)), times(lambda: column.take(positions))
    print(f"{name:15} filter {seen[name][0]}  take {seen[name][1]}")
if seen["fixed_size_list"] != (1.0, 1.0) or seen["binary"] != (1.0, 1.0):
    sys.exit("changed: columns without offsets of values need more, too")
if min(seen["list"]) < 3 or min(seen["large_list"]) < 6:
    sys.exit("changed: rows of lists are chosen with less memory")
PYTHON
