#!/usr/bin/env bash
# fastparquet 2026.9.0: a list of three or more files is read by absolute paths only
#
# ParquetFile takes a list of files. With two, paths may be relative to the working folder. From the
# third on the footers are fetched together, in a dictionary whose keys are absolute paths, and are
# looked up by the paths that were given.
#
# Seen:
#   2 relative: [0, 1]
#   3 relative: KeyError: 'b.parquet'
#   3 absolute: [0, 1, 2]
#
# Expected: the rows of three files, as those of two.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'fastparquet==2026.9.0' 'pandas==3.1.1' 'numpy==2.4.6'
venv/bin/python - <<'PYTHON'
import os
import sys

import fastparquet
import pandas as pd

files = ["a.parquet", "b.parquet", "c.parquet"]
for number, file in enumerate(files):
    fastparquet.write(file, pd.DataFrame({"x": [number]}))


def rows(paths, words):
    try:
        found = fastparquet.ParquetFile(paths).to_pandas()["x"].tolist()
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    print(f"{words}: {found}")
    return found


if rows(files[:2], "2 relative") != [0, 1]:
    sys.exit("changed: two files by relative paths are read otherwise")
if rows(files, "3 relative") != "KeyError: 'b.parquet'":
    sys.exit("changed: three files by relative paths are read otherwise")
if rows([os.path.abspath(file) for file in files], "3 absolute") != [0, 1, 2]:
    sys.exit("changed: three files by absolute paths are read otherwise")
PYTHON
