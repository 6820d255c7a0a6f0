#!/usr/bin/env bash
# Pillow 13.0.0: floats and signed or 32-bit integers of a compressed big-endian TIFF are byte-swapped
#
# libtiff decompresses to the machine's own byte order; for mode F and I Pillow takes the bytes for
# the file's and swaps them again. 2.0 becomes 9e-44, 3 becomes 50331648. Without compression, in
# little-endian files and for unsigned 16 bits the values are right. No error, no warning.
#
# Seen (the values 0, 2, 3, 500):
#   float32 plain: 0 2 3 500            lzw: 0 8.96831e-44 2.30486e-41 8.9777e-41
#   int16   plain: 0 2 3 500            lzw: 0 512 768 -3071
#   int32   plain: 0 2 3 500            lzw: 0 33554432 50331648 -201261056
#   uint16  plain: 0 2 3 500            lzw: 0 2 3 500
#
# Expected: the same values with and without compression, as tifffile reads them.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check \
    'pillow==13.0.0' 'tifffile==2026.3.3' 'imagecodecs==2026.3.6' 'numpy==2.4.6'
venv/bin/python - <<'PYTHON'
import io
import sys

import numpy as np
import tifffile
from PIL import Image


def read(values, compression):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, byteorder=">", compression=compression)
    return np.asarray(Image.open(buffer)).ravel()


swapped = {}
for kind in ("float32", "int16", "int32", "uint16"):
    values = np.array([[0, 2, 3, 500]], kind)
    plain, packed = read(values, None), read(values, "lzw")
    told = [" ".join(f"{value:g}" if kind == "float32" else str(value) for value in each)
            for each in (plain, packed)]
    print(f"{kind:7} plain: {told[0]:20} lzw: {told[1]}")
    if not np.array_equal(plain, values[0]):
        sys.exit("changed: uncompressed values are wrong, too")
    swapped[kind] = not np.array_equal(packed, values[0])
if swapped != {"float32": True, "int16": True, "int32": True, "uint16": False}:
    sys.exit("changed: other values are swapped, or none")
PYTHON
