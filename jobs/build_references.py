"""Make references that images are compared with: ``python jobs/build_references.py --help``.

Run it directly (a local Ray starts), or on a cluster:
``ray job submit --working-dir . -- python jobs/build_references.py --input ... --output ...``
"""

import sys

from pipeline.commands.references import main

if __name__ == "__main__":
    sys.exit(main())
