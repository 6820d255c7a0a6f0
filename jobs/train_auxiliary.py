"""Train AdaCLIP on auxiliary data: ``python jobs/train_auxiliary.py --help``.

Run it directly (a local Ray starts), or on a cluster:
``ray job submit --working-dir . -- python jobs/train_auxiliary.py --data ... --output ...``
"""

import sys

from pipeline.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
