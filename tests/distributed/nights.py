"""Nights for tests: a bucket of three bolts, and a scorer that answers at once."""

from __future__ import annotations

from functools import partial

from pipeline.benchmark.stand_in import StandInScorer
from pipeline.config import ScoreConfig
from pipeline.distributed.nightly import run_night
from pipeline.nightly.scans import Scans, Source
from pipeline.storage import list_objects
from tests import golden
from tests.bucket import jpeg, put

TODAY = "2026-01-20"

# Loading the model takes longer than all else of a night, and no test looks at its figures.
night_of = partial(run_night, scorer=StandInScorer)


def three_bolts(golden_files: dict[str, str], bucket: str) -> ScoreConfig:
    """Score three bolts of a bucket with the golden model."""
    put(bucket, {f"in/bolt/{i}.jpg": jpeg(i) for i in range(3)})
    return ScoreConfig(
        input=(f"s3://{bucket}/in",),
        output=f"s3://{bucket}/out",
        image_size=golden.IMAGE_SIZE,
        scan_date=TODAY,
        **golden_files,  # type: ignore[arg-type]
    )


def scans(config: ScoreConfig, **sources: Source) -> Scans:
    """A night over sources whose summaries lie beside an output."""
    summary = config.output.rsplit("/", 1)[0] + "/ops"
    return Scans(summary=summary, sources=tuple(sources.values()))


def objects(uri: str) -> set[tuple[str, str]]:
    """What lies below a folder: URIs and ETags."""
    return {(o.uri, o.etag) for page in list_objects(uri) for o in page}
