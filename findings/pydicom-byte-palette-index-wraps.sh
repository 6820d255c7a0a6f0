#!/usr/bin/env bash
# pydicom 3.0.2: into a palette of bytes, an index above 255 wraps
#
# Indices are cast to the type of the table's entries before they are looked up. With a packed 8-bit
# table and 16-bit pixels, 256 becomes 0: what lies above the table should take its last entry
# (PS3.3, C.7.6.3.1.5), and in a table of 4,096 entries all beyond the first 256 are never reached.
#
# Seen (entries are i of 256, and i // 16 of 4,096):
#   256 entries, pixels 255 256 300: 255 0 44
#   4096 entries, pixels 255 300 4095: 15 2 15
#
# Expected: 255 255 255, and 15 18 255.
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


seen = []
for number, pixels in ((256, [255, 256, 300]), (4096, [255, 300, 4095])):
    entries = (np.arange(number) * 256 // number).astype(np.uint8).tobytes()
    colours = apply_color_lut(np.array(pixels, np.uint16), dataset(number, 8, entries))
    seen.append([int(value) for value in colours[:, 0]])
    print(f"{number} entries, pixels {' '.join(map(str, pixels))}:", *seen[-1])
if seen != [[255, 0, 44], [15, 2, 15]]:
    sys.exit("changed: indices above 255 are looked up otherwise")
PYTHON
