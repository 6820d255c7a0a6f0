#!/usr/bin/env bash
# Pillow 13.0.0: a turned TIFF gives right pixels from bytes and scrambled ones from a path
#
# An uncompressed 8-bit gray TIFF of 8 x 4 pixels with the tag Orientation = 6. Pillow turns such
# files when it loads them. From a file object it does so rightly. From a path, where it maps the
# file into memory, it cuts the stored pixels into rows of the width after the turn, and turns that:
# 8 wide and 4 high instead of 4 wide and 8 high, and scrambled. No error, no warning.
#
# Seen:
#   from bytes (8, 4) first row [24, 16, 8, 0]
#   from path  (4, 8) first row [28, 24, 20, 16, 12, 8, 4, 0]
#
# Expected: the same picture both ways, as the documentation tells of no difference between a
# path and a file object; a compressed TIFF, and an RGB one, are equal both ways.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'pillow==13.0.0' 'tifffile==2026.3.3' 'numpy==2.4.6'
venv/bin/python - <<'PYTHON'
import io
import sys
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

stored = np.arange(32, dtype=np.uint8).reshape(4, 8)
upright = np.rot90(stored, -1)  # Orientation 6: turn clockwise


def both_ways(**options):
    tifffile.imwrite("a.tif", stored, photometric="minisblack",
                     extratags=[(274, "H", 1, 6, False)], **options)
    from_path = np.asarray(Image.open("a.tif"))
    from_bytes = np.asarray(Image.open(io.BytesIO(Path("a.tif").read_bytes())))
    return from_path, from_bytes


from_path, from_bytes = both_ways()
print("from bytes", from_bytes.shape, "first row", from_bytes[0].tolist())
print("from path ", from_path.shape, "first row", from_path[0].tolist())
packed_path, packed_bytes = both_ways(compression="deflate")
if not all(np.array_equal(each, upright) for each in (from_bytes, packed_path, packed_bytes)):
    sys.exit("changed: the ways that were right no longer are")
if not np.array_equal(from_path, np.rot90(stored.reshape(8, 4), -1)):
    sys.exit("changed: from a path, the rows are no longer cut at the turned width")
PYTHON
