"""Where a Chromium is. Its tests fail without one: a page that nobody opened is not tested."""

from __future__ import annotations

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REMEDY = (
    "no Chromium or Chrome was found; install one (Debian: apt-get install chromium) or give its "
    "path: CHROMIUM=/path/to/chrome make test"
)


def find_chromium() -> str:
    """Path of the browser: $CHROMIUM, or what is on the PATH.

    Raises:
        FileNotFoundError: there is none; the message names the remedy.
    """
    given = os.environ.get("CHROMIUM")
    for name in (given,) if given else NAMES:
        if name and (path := shutil.which(name)):
            return path
    raise FileNotFoundError(f"CHROMIUM={given} is no program" if given else REMEDY)
