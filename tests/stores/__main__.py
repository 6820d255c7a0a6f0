"""Start every store that is installed, ask it everything, print the table of docs/stores.md."""

from __future__ import annotations

import os
import subprocess
import sys

import boto3

from .checks import CHECKS, new_bucket
from .servers import STORES, Store

TIMEOUT_S = 600


def main(names: list[str]) -> None:
    """A row for each store; each has a process of its own, so that no client is left over.

    Args:
        names: beginnings of the stores' names; all if there are none.
    """
    print(f"| store | {' | '.join(CHECKS)} | settings |")
    print("| --- |" + " --- |" * (len(CHECKS) + 1), flush=True)
    for store in STORES:
        if names and not store.name.lower().startswith(tuple(map(str.lower, names))):
            continue
        if not store.is_installed():
            print(f"{store.name}: {store.program} is not installed", file=sys.stderr)
            continue
        command = [sys.executable, "-m", "tests.stores", "--row", store.name]
        subprocess.run(command, timeout=TIMEOUT_S, check=False)


def row(store: Store) -> None:
    """One store's row."""
    with store.start() as variables:
        os.environ.update({**variables, **store.settings})
        boto3.setup_default_session()
        scheme = "s3" if "AWS_ENDPOINT_URL" in variables else "abfs"
        answers = [_answer(check, scheme) for check in CHECKS]
        settings = " ".join(f"`{name}={value}`" for name, value in store.settings.items())
        print(f"| {store.name} | {' | '.join(answers)} | {settings} |", flush=True)


def _answer(check: str, scheme: str) -> str:
    try:
        return CHECKS[check](new_bucket(scheme))
    except Exception as error:  # whatever it is, it is the answer
        print(f"{check}: {error!r}", file=sys.stderr)
        return f"no: {type(error).__name__}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--row"]:
        row(next(store for store in STORES if store.name == sys.argv[2]))
    else:
        main(sys.argv[1:])
