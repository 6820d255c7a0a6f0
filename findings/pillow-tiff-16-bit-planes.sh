#!/usr/bin/env bash
# Pillow 13.0.0: 16-bit colours in separate planes are read as if they had 8 bits
#
# An uncompressed RGB TIFF of 16 bits a channel with PlanarConfiguration = 2 (each channel in a
# plane of its own). Pillow takes each byte of a plane for a pixel: low and high bytes by turns,
# and only the upper half of the picture, stretched. No error, no warning.
#
# Seen (a flat colour; the upper bytes are 200, 100, 50):
#   interleaved  [[200, 100, 50], [200, 100, 50], [200, 100, 50]]
#   deflated     [[200, 100, 50], [200, 100, 50], [200, 100, 50]]
#   planes       [[7, 8, 9], [200, 100, 50], [7, 8, 9]]
#
# Expected: what Pillow gives for the same pixels interleaved, or in planes that are compressed
# with deflate: 200, 100, 50 everywhere. Or a refusal, as for other layouts that it does not know.
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

colour = np.array([200 * 256 + 7, 100 * 256 + 8, 50 * 256 + 9], np.uint16)
pixels = np.tile(colour, (4, 6, 1))
planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
tifffile.imwrite("interleaved.tif", pixels, photometric="rgb")
tifffile.imwrite("deflated.tif", planes, photometric="rgb", planarconfig="separate",
                 compression="deflate")
tifffile.imwrite("planes.tif", planes, photometric="rgb", planarconfig="separate")
seen = {}
for name in ("interleaved", "deflated", "planes"):
    seen[name] = np.asarray(Image.open(f"{name}.tif"))
    print(f"{name:12}", seen[name][0, :3].tolist())
if not np.array_equal(tifffile.imread("planes.tif"), planes):
    sys.exit("the file itself is wrong")
if not all((seen[name] == [200, 100, 50]).all() for name in ("interleaved", "deflated")):
    sys.exit("changed: the layouts that were right no longer are")
raw = planes.view(np.uint8).reshape(3, -1)[:, :24].reshape(3, 4, 6).transpose(1, 2, 0)
if not np.array_equal(seen["planes"], raw):
    sys.exit("changed: planes of 16 bits are no longer read byte by byte")
PYTHON
