"""The scoring job's settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar

from .checks import check_at_least, check_date, check_given, check_positive
from .images import ImagesConfig

AUTO = "auto"  # references of the output's own
MAX_GALLERY = 1_000  # images of a page; of more, each would have too few bytes to show anything


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(ImagesConfig):
    """Score every image below one or more prefixes with AdaCLIP and write Parquet.

    Images that the output already holds under the same model are skipped, so the same command
    continues after a crash and picks up new images. Exit codes: 0 done, 1 failed or too many
    errors, 2 the command can't be carried out as given (nothing was scored), 130 interrupted.
    """

    GROUP: ClassVar = "results"
    COMMON: ClassVar = (
        "model references category include since limit thresholds precision batch_size address"
    )
    EXAMPLE: ClassVar = "adaclip score --input photos --output scores --model small"

    output: str
    """Folder that receives scores/, maps/ and runs/. Read the scores with
    pandas.read_parquet("<output>/scores")."""

    limit: int | None = None
    """At most so many images in this run; the next one goes on."""
    rescore: bool = False
    """Score what is listed again, also what the output holds under the same model. The new rows are
    the ones that open_results shows; the old stay in the table."""

    count_known_errors: bool = True
    """Errors of earlier runs that no try can change count for --max-error-rate too, so a failed run
    that is repeated fails again. Off: only errors of this run's own images do."""

    references: str | None = None
    """Judge images beside their siblings: a folder that adaclip references made, or "auto" for
    those of the bucket itself. The latter makes references of each category as soon as 20 of its
    images are listed, below the output, and uses the same ones from then on (docs/references.md).
    Categories without references are scored as without this flag."""
    refresh_references: bool = False
    """With --references auto: make all references anew, from what is listed now. Their images are
    scored again."""

    maps: bool = True
    """Write anomaly maps (2.5 KB an image at 518 px)."""
    embeddings: bool = False
    """Keep the class embedding of every image with its map, 1.5 KB at ViT-L, for similar() of
    open_results."""
    gallery: int = 200
    """Most anomalous images to show in the run's report.html, at most 1,000; categories take turns.
    0 = a page without pictures, for which no image is read again."""

    thresholds: str | None = None
    """Calibrated thresholds of this model, of jobs/calibrate.py: a path or URI. The report then
    counts the images above, by category."""

    allow_empty: bool = False
    """Finding no object at all is no error."""
    lock_wait_s: float = 0.0
    """Seconds to wait for another run that writes to the same output, before giving up."""
    lock: bool = True
    """Keep other jobs from writing to the same output. Off is for stores that refuse conditional
    writes (docs/stores.md): two jobs at once then store images twice, and a compaction or vacuum
    may delete what the other one writes."""
    commit_interval_s: float = 300.0
    """Seconds between writes of finished rows. What a killed run had not written, the next scores
    again."""
    scan_date: str = field(default_factory=_today)
    """Partition to write to, YYYY-MM-DD. Default: today (UTC)."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        super().__post_init__()
        check_given("--output", self.output)
        check_at_least("--limit", self.limit, 1)
        check_at_least("--gallery", self.gallery, 0)
        if self.gallery > MAX_GALLERY:
            raise ValueError(f"--gallery is {self.gallery}; a page shows at most {MAX_GALLERY:,}")
        check_at_least("--lock-wait-s", self.lock_wait_s, 0)
        check_positive("--commit-interval-s", self.commit_interval_s)
        check_date("--scan-date", self.scan_date)
        if self.refresh_references and self.references != AUTO:
            raise ValueError(
                "--refresh-references goes with --references auto; what jobs/build_references.py "
                "made is made anew by that job"
            )
        if self.references and self.frozen_image_size is not None:
            raise ValueError("--references compare what --frozen-image-size leaves out; give one")
        if self.embeddings and not self.maps:
            raise ValueError("--embeddings are kept with the maps; leave --no-maps out")
