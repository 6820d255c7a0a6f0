#!/usr/bin/env bash
# Pillow 13.0.0: signed 8-bit TIFF pixels are read as unsigned, so that -1 is brighter than 0
#
# A TIFF of one 8-bit channel with SampleFormat 2 (signed), as differences between two pictures are
# stored. Pillow opens it as mode L, bit by bit: -128..-1 become 128..255, above 0..127. Order and
# contrast are lost. Signed 16-bit pixels keep their values.
#
# Seen:
#   int8  stored [-128, -2, -1, 0, 1, 127]: mode L, [128, 254, 255, 0, 1, 127]
#   int16 stored [-128, -2, -1, 0, 1, 127]: mode I, [-128, -2, -1, 0, 1, 127]
#
# Expected: negative values, as at 16 bits (mode I), or a refusal, as for 64-bit floating point.
# Pillow's own JPEG 2000 reader moves signed 8-bit pixels up by 128, which keeps their order.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'pillow==13.0.0' 'tifffile==2026.3.3' 'numpy==2.4.6'
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import tifffile
from PIL import Image

values = [-128, -2, -1, 0, 1, 127]
seen = {}
for kind in ("int8", "int16"):
    tifffile.imwrite("a.tif", np.array([values], kind), photometric="minisblack")
    image = Image.open("a.tif")
    seen[kind] = np.asarray(image)[0].tolist()
    print(f"{kind:5} stored {values}: mode {image.mode}, {seen[kind]}")
if seen["int16"] != values:
    sys.exit("changed: signed 16-bit pixels no longer keep their values")
if seen["int8"] != [128, 254, 255, 0, 1, 127]:
    sys.exit("changed: signed 8-bit pixels are no longer taken for unsigned ones")
PYTHON
