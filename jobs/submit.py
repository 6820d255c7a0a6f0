"""Run a job on a cluster and end with its own exit code:

``python jobs/submit.py --address http://head:8265 -- python jobs/score_bucket.py --input ...``
"""

import sys

from pipeline.commands.submit import main

if __name__ == "__main__":
    sys.exit(main())
