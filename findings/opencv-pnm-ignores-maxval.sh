#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: the largest value of a PGM or PPM is read and then ignored
#
# A netpbm header names the value that is white. Machine-vision cameras with 10 or 12 bits write
# PGM with maxval 1023 or 4095. OpenCV does not scale by it: read as 8-bit colour, a 12-bit picture
# has nothing above 15 and looks black, and one with maxval 100 never gets brighter than 100.
#
# Seen (white is the last value):
#   PGM, maxval 4095: [0, 8, 15]
#   PGM, maxval 100:  [0, 50, 100] - Pillow: [0, 128, 255]
#   JPEG 2000, 12 bit: [0, 128, 255]
#
# Expected: white is 255 in 8-bit colour: netpbm's description says that intensities are relative
# to maxval, Pillow 13.0.0 scales by it, and OpenCV itself reads 12-bit JPEG 2000 as 0..255.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'opencv-python-headless==5.0.0.93' 'pillow==13.0.0' 'imagecodecs==2026.3.6' 'numpy==2.4.6'
venv/bin/python - <<'PYTHON'
import sys
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
from PIL import Image


def opencv(name):
    return cv2.imread(name, cv2.IMREAD_COLOR)[0, :, 0].tolist()


wide = np.array([[0, 2048, 4095]] * 3, np.uint16)
Path("a.pgm").write_bytes(b"P5 3 3 4095\n" + wide.astype(">u2").tobytes())
Path("b.pgm").write_bytes(b"P5 3 1 100\n" + bytes([0, 50, 100]))
Path("a.jp2").write_bytes(
    imagecodecs.jpeg2k_encode(wide, bitspersample=12, level=0, reversible=True))
seen = {name: opencv(name) for name in ("a.pgm", "b.pgm", "a.jp2")}
pillow = np.asarray(Image.open("b.pgm"))[0].tolist()
print("PGM, maxval 4095:", seen["a.pgm"])
print("PGM, maxval 100: ", seen["b.pgm"], "- Pillow:", pillow)
print("JPEG 2000, 12 bit:", seen["a.jp2"])
if pillow != [0, 128, 255] or seen["a.jp2"][-1] != 255:
    sys.exit("changed: what scaled no longer does")
if seen["a.pgm"] != [0, 8, 15] or seen["b.pgm"] != [0, 50, 100]:
    sys.exit("changed: OpenCV scales by maxval")
PYTHON
