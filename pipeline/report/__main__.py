"""The page of any nights or of one run: ``python -m pipeline.report --help``."""

import sys

from pipeline.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
