#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: white in a 15- or 16-bit BMP is not white
#
# BMPs of 5 bits a channel come from framegrabbers and displays. The largest value, 31, is full
# intensity. OpenCV shifts it left by three bits, which makes 248; of 5-6-5 bits white becomes
# (248, 252, 248), slightly green.
#
# Seen (blue, green, red of a white pixel in OpenCV, red, green, blue in Pillow):
#   555.bmp: OpenCV [248, 248, 248], Pillow [255, 255, 255]
#   565.bmp: OpenCV [248, 252, 248], Pillow [255, 255, 255]
#   1.png: OpenCV [255, 255, 255], Pillow [255, 255, 255]
#
# Expected: 255, as Pillow gives, and as OpenCV itself gives for white in PNGs of 1 and 2 bits.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'opencv-python-headless==5.0.0.93' 'pillow==13.0.0' 'numpy==2.4.6'
venv/bin/python - <<'PYTHON'
import struct
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image


def bmp(name, masks):
    row = struct.pack("<HH", 0xFFFF if masks else 0x7FFF, 0)  # white, black
    tables = b"".join(struct.pack("<I", mask) for mask in masks)
    info = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 3 if masks else 0, len(row), 0, 0, 0, 0)
    start = 14 + len(info) + len(tables)
    head = b"BM" + struct.pack("<IHHI", start + len(row), 0, 0, start)
    Path(name).write_bytes(head + info + tables + row)


bmp("555.bmp", ())
bmp("565.bmp", (0xF800, 0x07E0, 0x001F))
Image.new("1", (2, 1), 1).save("1.png")
seen = {}
for name in ("555.bmp", "565.bmp", "1.png"):
    opencv = cv2.imread(name, cv2.IMREAD_COLOR)[0, 0].tolist()
    pillow = np.asarray(Image.open(name).convert("RGB"))[0, 0].tolist()
    seen[name] = opencv
    print(f"{name}: OpenCV {opencv}, Pillow {pillow}")
    if pillow != [255, 255, 255]:
        sys.exit("changed: white is not white in Pillow either")
if seen != {"555.bmp": [248] * 3, "565.bmp": [248, 252, 248], "1.png": [255] * 3}:
    sys.exit("changed: white is another value in OpenCV")
PYTHON
