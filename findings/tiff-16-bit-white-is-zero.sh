#!/usr/bin/env bash
# Pillow 13.0.0, opencv-python-headless 5.0.0.93: WhiteIsZero is heeded at 8 bits, not at 16
#
# TIFF's PhotometricInterpretation 0 (WhiteIsZero) says that 0 is white; scanners and radiographs
# use it. Both readers turn an 8-bit file into the usual sense, where 0 is black. A 16-bit file of
# the same picture they hand out as it is stored, a negative, and nothing tells so. A 16-bit file
# in the other byte order Pillow refuses.
#
# Seen (the stored picture goes from 0, white, to the largest value, black):
#    8 bits: stored [0, 60, 255], {'Pillow': [255, 195, 0], 'OpenCV': [255, 195, 0]}
#   16 bits: stored [0, 15420, 65535], {'Pillow': [0, 15420, 65535], 'OpenCV': [0, 15420, 65535]}
#   16 bits, big-endian: Pillow raises UnidentifiedImageError
#
# Expected: one sense for one tag. Who gets pixels cannot know which of the two was meant: Pillow's
# modes L and I;16 both have 0 for black.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'pillow==13.0.0' 'opencv-python-headless==5.0.0.93' 'tifffile==2026.3.3' 'numpy==2.4.6'
venv/bin/python - <<'PYTHON'
import sys

import cv2
import numpy as np
import tifffile
from PIL import Image

stored = {8: np.array([[0, 60, 255]], np.uint8), 16: np.array([[0, 15420, 65535]], np.uint16)}
seen = {}
for bits, pixels in stored.items():
    tifffile.imwrite("a.tif", pixels, photometric="miniswhite")
    seen[bits] = {
        "Pillow": np.asarray(Image.open("a.tif"))[0].tolist(),
        "OpenCV": cv2.imread("a.tif", cv2.IMREAD_UNCHANGED)[0].tolist(),
    }
    print(f"{bits:2} bits: stored {pixels[0].tolist()}, {seen[bits]}")
tifffile.imwrite("a.tif", stored[16], photometric="miniswhite", byteorder=">")
try:
    Image.open("a.tif")
    sys.exit("changed: Pillow opens 16-bit WhiteIsZero in big-endian order")
except OSError as error:
    print("16 bits, big-endian: Pillow raises", type(error).__name__)
if any(values != [255, 195, 0] for values in seen[8].values()):
    sys.exit("changed: WhiteIsZero is no longer heeded at 8 bits")
if any(values != [0, 15420, 65535] for values in seen[16].values()):
    sys.exit("changed: WhiteIsZero is heeded at 16 bits")
PYTHON
