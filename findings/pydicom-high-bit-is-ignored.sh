#!/usr/bin/env bash
# pydicom 3.0.2: pixel_array takes the lowest bits of each cell, whatever HighBit says
#
# 12 bits may lie at the top of a cell of 16, which HighBit 15 says (PS3.5, 8.1.1). pixel_array masks the lower 12 instead: the four highest bits of each value are lost, and
# four that mean nothing come in. No error, no warning.
#
# Seen (cells of 0x1230 and 0xfff0, BitsStored 12):
#   HighBit 15: 0x230 0xff0
#
# Expected: 0x123 0xfff, or a refusal.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'pydicom==3.0.2' 'numpy==2.4.6'
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

made = Dataset()
made.file_meta = FileMetaDataset()
made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
made.Rows, made.Columns, made.SamplesPerPixel = 1, 2, 1
made.PhotometricInterpretation, made.PixelRepresentation = "MONOCHROME2", 0
made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 15
made.PixelData = np.array([0x1230, 0xFFF0], "<u2").tobytes()
made["PixelData"].VR = "OW"
seen = [int(value) for value in made.pixel_array.ravel()]
print("HighBit 15:", *map(hex, seen))
if seen != [0x230, 0xFF0]:
    sys.exit("changed: HighBit counts, or is refused")
PYTHON
