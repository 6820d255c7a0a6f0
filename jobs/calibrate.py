"""Thresholds from known-good images: ``python jobs/calibrate.py --help``.

Run it directly (a local Ray starts), or on a cluster:
``ray job submit --working-dir . -- python jobs/calibrate.py --input ... --output ...``
"""

import sys

from pipeline.commands.calibrate import main

if __name__ == "__main__":
    sys.exit(main())
