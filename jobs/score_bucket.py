"""Score a bucket: ``python jobs/score_bucket.py --help``.

Run it directly (a local Ray starts), or on a cluster:
``ray job submit --working-dir . -- python jobs/score_bucket.py --input ... --output ...``
"""

import sys

from pipeline.commands.score import main

if __name__ == "__main__":
    sys.exit(main())
