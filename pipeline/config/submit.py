"""The settings of what submits a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tyro

from .checks import refuse_credentials
from .job import CommandConfig


@dataclass(frozen=True, kw_only=True)
class SubmitConfig(CommandConfig):
    """Run a job on a cluster, show what it prints, and end with its own exit code.

    The command stands behind "--". Exit codes: the command's own; 130 if it was stopped
    before it could tell; 1 if it was lost; 2 if it can't be submitted.
    """

    EXAMPLE: ClassVar = (
        "adaclip submit --address http://head:8265 -- python jobs/score_bucket.py \\\n"
        "    --input s3://bucket/prefix --output s3://bucket/scores"
    )

    address: str | None = None
    """Job server of the cluster, such as http://head:8265. Default: $RAY_API_SERVER_ADDRESS, or
    the cluster of this machine. A token comes from $RAY_AUTH_TOKEN."""
    working_dir: str | None = None
    """Folder to upload. Default: the command finds its files in the cluster's image."""
    entrypoint: tyro.conf.Suppress[tuple[str, ...]] = ()
    """What stands behind "--"."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        refuse_credentials(self)
