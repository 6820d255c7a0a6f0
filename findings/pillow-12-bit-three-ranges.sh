#!/usr/bin/env bash
# Pillow 13.0.0: one 12-bit gray picture has three ranges in TIFF, JPEG 2000 and PGM
#
# White is 4095 in each file, and each file says that it has 12 bits. Pillow gives 4095 for the
# TIFF (not scaled), 65520 for the JPEG 2000 (shifted by four bits, so that white isn't white) and
# 65535 for the PGM (scaled).
#
# Seen:
#   a.tif: [0, 1, 2048, 4095] -> [0, 1, 2048, 4095], mode I;16
#   a.jp2: [0, 1, 2048, 4095] -> [0, 16, 32768, 65520], mode I;16
#   a.pgm: [0, 1, 2048, 4095] -> [0, 16, 32776, 65535], mode I
#   4-bit TIFF: [0, 8, 15] -> [0, 136, 255]
#
# Expected: one meaning of a 16-bit gray pixel, whatever the file's format. Pillow scales
# 4-bit TIFF to the full 0..255, so the unscaled 12 bits surprise within one format, too.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'pillow==13.0.0' 'imagecodecs==2026.3.6' 'tifffile==2026.3.3' 'numpy==2.4.6'
venv/bin/python - <<'PYTHON'
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

pixels = np.array([[0, 1, 2048, 4095]] * 4, np.uint16)
tifffile.imwrite("a.tif", pixels, photometric="minisblack", bitspersample=12)
Path("a.jp2").write_bytes(
    imagecodecs.jpeg2k_encode(pixels, bitspersample=12, level=0, reversible=True))
Path("a.pgm").write_bytes(b"P5 4 4 4095\n" + pixels.astype(">u2").tobytes())
seen = {}
for name in ("a.tif", "a.jp2", "a.pgm"):
    image = Image.open(name)
    seen[name] = np.asarray(image)[0].tolist()
    print(f"{name}: {pixels[0].tolist()} -> {seen[name]}, mode {image.mode}")
tifffile.imwrite("b.tif", np.array([[0, 8, 15]], np.uint8), photometric="minisblack",
                 bitspersample=4)
four = np.asarray(Image.open("b.tif"))[0].tolist()
print(f"4-bit TIFF: [0, 8, 15] -> {four}")
if (seen["a.tif"], seen["a.jp2"], seen["a.pgm"], four) != (
    [0, 1, 2048, 4095], [0, 16, 32768, 65520], [0, 16, 32776, 65535], [0, 136, 255],
):
    sys.exit("changed: the ranges are others")
PYTHON
