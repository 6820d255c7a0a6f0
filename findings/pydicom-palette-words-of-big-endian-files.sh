#!/usr/bin/env bash
# pydicom 3.0.2: the 16-bit palette of an Explicit VR Big Endian file is read with its bytes swapped
#
# apply_color_lut takes the words of the colour tables for little-endian ones whatever the transfer
# syntax says. The pixels themselves are read right, so a colour picture comes out in other colours,
# without a word.
#
# Seen (a table of 0x0102 and 0xa0b0, written in each byte order):
#   little endian: 0x102 0xa0b0
#   big endian: 0x201 0xb0a0
#
# Expected: the same entries (PS3.5, 7.3).
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
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian


def dataset(number, bits, entries, syntax=ExplicitVRLittleEndian, kind=""):
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    for colour in ("Red", "Green", "Blue"):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [number, 0, bits])
        setattr(made, f"{kind}{colour}PaletteColorLookupTableData", entries)
    return made


seen = {}
for name, syntax, order in (
    ("little endian", ExplicitVRLittleEndian, "<u2"),
    ("big endian", ExplicitVRBigEndian, ">u2"),
):
    entries = np.array([0x0102, 0xA0B0], order).tobytes()
    colours = apply_color_lut(np.array([0, 1], np.uint8), dataset(2, 16, entries, syntax))
    seen[name] = [int(value) for value in colours[:, 0]]
    print(f"{name}:", *(hex(value) for value in seen[name]))
if seen["little endian"] != [0x0102, 0xA0B0]:
    sys.exit("changed: little-endian palettes are read otherwise")
if seen["big endian"] != [0x0201, 0xB0A0]:
    sys.exit("changed: big-endian palettes are read right, or otherwise")
PYTHON
