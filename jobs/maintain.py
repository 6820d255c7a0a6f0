"""Keep an output in shape: ``python jobs/maintain.py compact --help``, ``... vacuum --help``."""

import sys

from pipeline.commands.maintain import main

if __name__ == "__main__":
    sys.exit(main())
