#!/usr/bin/env bash
# Pillow 13.0.0: white is black in JPEG 2000 files of 9 to 16 bits with colours
#
# Samples of more than 8 bits are rounded to 8 without a limit: what should become 256 becomes 0.
# In RGB of 10, 12 and 16 bits the brightest half level, white among it, comes out black; one level
# below it is white. In a JP2 file gray of 9 bits is opened as 8, and ends alike; of 10 bits it
# comes as 16 bits, and is right.
#
# Seen:
#   RGB, 10 bits: [0, 512, 1020, 1023] -> [0, 128, 255, 0], mode RGB
#   RGB, 12 bits: [0, 2048, 4080, 4095] -> [0, 128, 255, 0], mode RGB
#   RGB, 16 bits: [0, 32768, 65280, 65535] -> [0, 128, 255, 0], mode RGB
#   gray, 9 bits: [0, 256, 510, 511] -> [0, 128, 255, 0], mode L
#   gray, 10 bits: [0, 512, 1020, 1023] -> [0, 32768, 65280, 65472], mode I;16
#
# Expected: white stays white. The same pictures as 16-bit PNG and TIFF do.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'pillow==13.0.0' 'imagecodecs==2026.3.6' 'numpy==2.4.6'
venv/bin/python - <<'PYTHON'
import io
import sys

import imagecodecs
import numpy as np
from PIL import Image

seen = []
for bits, samples in ((10, 3), (12, 3), (16, 3), (9, 1), (10, 1)):
    most = 2**bits - 1
    values = [0, 2 ** (bits - 1), 255 * 2 ** (bits - 8), most]
    gray = np.array([values] * 4, np.uint16)
    pixels = gray if samples == 1 else np.stack([gray] * samples, -1)
    data = imagecodecs.jpeg2k_encode(pixels, bitspersample=bits, level=0, reversible=True)
    image = Image.open(io.BytesIO(data))
    seen.append(np.asarray(image).reshape(4, 4, -1)[0, :, 0].tolist())
    kind = "RGB" if samples == 3 else "gray"
    print(f"{kind}, {bits} bits: {values} -> {seen[-1]}, mode {image.mode}")
    back = imagecodecs.jpeg2k_decode(data)
    if not np.array_equal(back, pixels):
        sys.exit("the file itself is not lossless")
if [each[3] for each in seen] != [0, 0, 0, 0, 65472]:
    sys.exit("changed: white is another value")
if [each[2] for each in seen[:4]] != [255] * 4:
    sys.exit("changed: the level below is no longer white")
PYTHON
