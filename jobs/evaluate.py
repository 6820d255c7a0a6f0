"""Measure AdaCLIP on labelled images: ``python jobs/evaluate.py --help``.

Run it directly (a local Ray starts), or on a cluster:
``ray job submit --working-dir . -- python jobs/evaluate.py --data ... --output ...``
"""

import sys

from pipeline.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
