#!/usr/bin/env bash
# pydicom 3.0.2: a segment of a 16-bit palette that refers to another one refers to the wrong place
#
# An indirect segment (type 2) gives the offset of the segments that it repeats in bytes (PS3.3,
# C.7.9.2). In tables of 16 bits it is taken for an offset in words, twice as far, and whatever lies
# there becomes entries.
#
# Seen (10 20, then 30, then "the one segment from byte 8 on again", which is 30):
#   10 20 30 26
#
# Expected: 10 20 30 30.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'pydicom==3.0.2' 'numpy==2.4.6'
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_color_lut
from pydicom.uid import ExplicitVRLittleEndian


def dataset(number, bits, entries, syntax=ExplicitVRLittleEndian, kind=""):
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    for colour in ("Red", "Green", "Blue"):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [number, 0, bits])
        setattr(made, f"{kind}{colour}PaletteColorLookupTableData", entries)
    return made


segments = np.array([0, 2, 10, 20, 0, 1, 30, 2, 1, 8, 0], "<u2").tobytes()
made = dataset(4, 16, segments, kind="Segmented")
seen = [int(value) for value in apply_color_lut(np.arange(4, dtype=np.uint8), made)[:, 0]]
print(*seen)
if seen[:3] != [10, 20, 30]:
    sys.exit("changed: segments of values are read otherwise")
if seen[3] == 30:
    sys.exit("changed: the offset is taken in bytes")
PYTHON
