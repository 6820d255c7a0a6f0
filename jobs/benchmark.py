"""Measure this machine or cluster: ``python jobs/benchmark.py --help``.

Run it directly (a local Ray starts), or on a cluster:
``ray job submit --working-dir . -- python jobs/benchmark.py --work s3://bucket/benchmark``
"""

import sys

from pipeline.commands.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
