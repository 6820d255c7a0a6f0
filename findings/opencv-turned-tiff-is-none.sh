#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: a TIFF that must be turned by 90 degrees is not read at all
#
# imread answers None for any TIFF with Orientation 5, 6, 7 or 8 that is not square: it turns the
# picture, finds that the memory is another than the one it had reserved, and gives up. A square
# one, and one turned by 180 degrees, are read and turned.
#
# Seen:
#   4 x 8, Orientation 1: [(4, 8), (4, 8), (4, 8)]
#   4 x 8, Orientation 3: [(4, 8), (4, 8), (4, 8)]
#   4 x 4, Orientation 6: [(4, 4), (4, 4), (4, 4)]
#   4 x 8, Orientation 5: [None, None, None]
#   4 x 8, Orientation 6: [None, None, None]
#   4 x 8, Orientation 7: [None, None, None]
#   4 x 8, Orientation 8: [None, None, None]
#
# Expected: the turned picture, as for JPEG, PNG and WebP with the same orientation. IMREAD_UNCHANGED
# and IMREAD_IGNORE_ORIENTATION don't help: they fail likewise.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'opencv-python-headless==5.0.0.93' 'tifffile==2026.3.3' 'numpy==2.4.6'
export OPENCV_LOG_LEVEL=SILENT
venv/bin/python - <<'PYTHON'
import sys

import cv2
import numpy as np
import tifffile


def read(height, width, orientation, flags):
    pixels = np.zeros((height, width), np.uint8)
    tifffile.imwrite("a.tif", pixels, photometric="minisblack",
                     extratags=[(274, "H", 1, orientation, False)])
    image = cv2.imread("a.tif", flags)
    return None if image is None else image.shape[:2]


ignore = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
asked = [(4, 8, 1), (4, 8, 3), (4, 4, 6), (4, 8, 5), (4, 8, 6), (4, 8, 7), (4, 8, 8)]
seen = {}
for each in asked:
    seen[each] = [read(*each, flags) for flags in (cv2.IMREAD_COLOR, cv2.IMREAD_UNCHANGED, ignore)]
    print("{0} x {1}, Orientation {2}:".format(*each), seen[each])
if any(None in seen[each] for each in asked[:3]):
    sys.exit("changed: what was read no longer is")
if any(seen[each] != [None] * 3 for each in asked[3:]):
    sys.exit("changed: OpenCV reads turned TIFFs that are not square")
PYTHON
