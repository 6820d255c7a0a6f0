"""Score what is new in several places, every night: ``python jobs/nightly_scan.py --help``.

Run it directly (a local Ray starts), or on a cluster:
``ray job submit --working-dir . -- python jobs/nightly_scan.py --config s3://bucket/scans.yaml``
"""

import sys

from pipeline.commands.nightly import main

if __name__ == "__main__":
    sys.exit(main())
