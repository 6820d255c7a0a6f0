#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: a second channel halves the bits of a 16-bit gray TIFF
#
# IMREAD_UNCHANGED of a 16-bit gray TIFF gives 16 bits. With an alpha channel beside the gray one,
# the same call gives 8 bits and no alpha: the values are cut to a 256th, without a word.
#
# Seen:
#   gray.tif       uint16, (4, 4): [0, 1000, 1001, 65535]
#   gray-alpha.tif uint8, (4, 4): [0, 3, 3, 255]
#   rgb-alpha.tif  uint16, (4, 4, 4): [0, 1000, 1001, 65535]
#   gray-alpha.png uint16, (4, 4, 4): [0, 1000, 1001, 65535]
#
# Expected: IMREAD_UNCHANGED is documented to give the image as it is, with its alpha channel.
# 16-bit RGB with alpha, and a 16-bit gray PNG with alpha, keep both.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'opencv-python-headless==5.0.0.93' 'tifffile==2026.3.3' 'imagecodecs==2026.3.6' 'numpy==2.4.6'
venv/bin/python - <<'PYTHON'
import sys
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import tifffile

gray = np.array([[0, 1000, 1001, 65535]] * 4, np.uint16)
alpha = np.full_like(gray, 65535)
both = np.stack([gray, alpha], -1)
colour = np.stack([gray, gray, gray, alpha], -1)
tifffile.imwrite("gray.tif", gray, photometric="minisblack")
tifffile.imwrite("gray-alpha.tif", both, photometric="minisblack", extrasamples=["unassalpha"],
                 planarconfig="contig")
tifffile.imwrite("rgb-alpha.tif", colour, photometric="rgb", extrasamples=["unassalpha"])
Path("gray-alpha.png").write_bytes(imagecodecs.png_encode(both))
seen = {}
for name in ("gray.tif", "gray-alpha.tif", "rgb-alpha.tif", "gray-alpha.png"):
    image = cv2.imread(name, cv2.IMREAD_UNCHANGED)
    values = image[0].reshape(4, -1)[:, 0].tolist()
    seen[name] = (str(image.dtype), image.shape[2:], values)
    print(f"{name:14} {image.dtype}, {image.shape}: {values}")
full = gray[0].tolist()
if [seen[name] for name in ("gray.tif", "rgb-alpha.tif", "gray-alpha.png")] != [
    ("uint16", (), full), ("uint16", (4,), full), ("uint16", (4,), full)
]:
    sys.exit("changed: what kept 16 bits no longer does")
if seen["gray-alpha.tif"] != ("uint8", (), [0, 3, 3, 255]):
    sys.exit("changed: gray with alpha is read otherwise")
PYTHON
