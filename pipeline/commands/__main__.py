"""``adaclip NAME ...``: every command by its name."""

from __future__ import annotations

import sys
from importlib import import_module

from pipeline.command import CANNOT_RUN, DONE

# Imported by name: to say what is wrong with one command line takes nothing that another needs.
COMMANDS = {
    "demo": "generated photographs, scored with the small model",
    "doctor": "whether everything is in place for a run, and how long one would take",
    "score": "score a bucket",
    "references": "make references that images are compared with",
    "nightly": "score what is new in several places, and tell what was found",
    "evaluate": "measure AdaCLIP on labelled images",
    "calibrate": "thresholds from known-good images",
    "train": "train AdaCLIP on auxiliary data",
    "report": "one page of what an output holds",
    "maintain": "keep an output in shape: compact, vacuum",
    "benchmark": "measure this machine or cluster",
    "submit": "run one of these on a cluster, and end with its exit code",
}

SHORT = {"bench": "benchmark"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the first argument names; returns its exit code."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    name = SHORT.get(name, name)
    if name in COMMANDS:
        code: int = import_module(f"pipeline.commands.{name}").main(rest)
        return code
    usage = "\n".join(f"  {each:<12}{what}" for each, what in COMMANDS.items())
    usage = f"usage: adaclip COMMAND ...\n\n{usage}\n\nadaclip COMMAND --help says more."
    if name in ("-h", "--help"):
        print(usage)
        return DONE
    print(f"error: there is no command {name!r}\n{usage}", file=sys.stderr)
    return CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main())
