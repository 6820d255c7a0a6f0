#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: JPEG, PNG and WebP are turned upright, AVIF is not
#
# The same picture, 32 wide and 16 high with orientation 6, saved by Pillow 13.0.0 in four formats.
# imread with IMREAD_COLOR turns three of them. An AVIF keeps the turn in a property of the picture
# (irot), which its standard makes part of decoding, not in EXIF; OpenCV leaves it out.
#
# Seen:
#   a.jpg: 16 x 32
#   a.png: 16 x 32
#   a.webp: 16 x 32
#   a.avif: 32 x 16
#   libvips, a.avif: 16 x 32
#
# Expected: the upright picture: the turn is a property that a reader must apply, and imread applies
# what says the same in other formats unless told not to. libvips (pyvips-binary 8.18.7) turns it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'opencv-python-headless==5.0.0.93' 'pillow==13.0.0' 'numpy==2.4.6' 'pyvips==3.2.0' 'pyvips-binary==8.18.7'
venv/bin/python - <<'PYTHON'
import sys

import cv2
import numpy as np
import pyvips
from PIL import Image

pixels = np.zeros((16, 32, 3), np.uint8)
pixels[:8, :16] = 255
seen = {}
for name in ("a.jpg", "a.png", "a.webp", "a.avif"):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(pixels).save(name, exif=exif)
    height, width = cv2.imread(name, cv2.IMREAD_COLOR).shape[:2]
    seen[name] = (width, height)
    print(f"{name}: {width} x {height}")
vips = pyvips.Image.new_from_file("a.avif")
print(f"libvips, a.avif: {vips.width} x {vips.height}")
if (vips.width, vips.height) != (16, 32):
    sys.exit("changed: the AVIF is not turned in libvips either")
if seen != {"a.jpg": (16, 32), "a.png": (16, 32), "a.webp": (16, 32), "a.avif": (32, 16)}:
    sys.exit("changed: OpenCV turns other formats than JPEG, PNG and WebP")
PYTHON
