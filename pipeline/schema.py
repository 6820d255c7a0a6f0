"""The data contract: columns, Arrow types and error codes. Everything else refers to this file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import pyarrow as pa


class ErrorCode(StrEnum):
    """Why an image has no score. The value is what stands in the ``error`` column."""

    NOT_FOUND = "not_found"
    """The object no longer exists."""
    ACCESS_DENIED = "access_denied"
    """The credentials may list the object but not read it, or expired after the listing."""
    ARCHIVED = "archived"
    """The object lies in an archive (S3's GLACIER, say) and must be restored first; then the next
    run scores it."""
    FETCH_FAILED = "fetch_failed"
    """Storage did not answer, after retries."""
    CHANGED = "changed"
    """The object was replaced between listing and fetching."""
    NO_CATEGORY = "no_category"
    """The category rule finds no class name in this key."""
    TOO_LARGE = "too_large"
    """More pixels (or bytes) than ``--max-megapixels`` allows."""
    KILLED_READER = "killed_reader"
    """The process that read it died, several times: of its memory, or of a decoder's fault."""
    OUT_OF_MEMORY = "out_of_memory"
    """The device had no memory for even this image alone."""
    EMPTY = "empty"
    """The object has no bytes."""
    NOT_AN_IMAGE = "not_an_image"
    """The bytes are not in a known image format, whatever the key's extension says."""
    TRUNCATED = "truncated"
    """An image whose data is cut short or damaged."""
    UNSUPPORTED_MODE = "unsupported_mode"
    """An image whose pixels have no defined conversion to 8-bit RGB (32-bit float, say), or in a
    format that is not read (HEIC), or only with an extra (DICOM); the message says what to do. What
    needs an extra is tried again once that is installed."""
    NOT_FINITE = "not_finite"
    """The model gave a score that is not a number."""


# Errors of the object as it is: another try gives the same. ``too_large`` depends on a flag, so the
# ledger decides it by the sizes in the row. What is restored from an archive counts as another
# object (``manifest.pending_images``).
FINAL_ERRORS = (
    ErrorCode.ARCHIVED,
    ErrorCode.EMPTY,
    ErrorCode.NOT_AN_IMAGE,
    ErrorCode.TRUNCATED,
    ErrorCode.UNSUPPORTED_MODE,
)

# In the metadata of every file of scores and maps; raised with each change of their columns. Files
# of before there was one have none: their maps are half floats.
VERSION = {"adaclip_schema": "2"}

_label = pa.dictionary(pa.int32(), pa.string())
_time = pa.timestamp("us", tz="UTC")


def _column(name: str, kind: pa.DataType, doc: str) -> pa.Field[Any]:
    return pa.field(name, kind, metadata={"doc": doc})


MANIFEST_SCHEMA = pa.schema(
    [
        _column("image_id", pa.string(), "128-bit hash of uri, etag, model and category, as hex"),
        _column(
            "uri",
            pa.string(),
            "the object, as fsspec spells it: s3://bucket/key, file:///path; of a shard's member "
            "with # and its name, of a DICOM file's frame with # and its number",
        ),
        _column(
            "etag",
            pa.string(),
            "version of the object: its ETag, or mtime and size of a file; of a shard's member "
            "with # and its place",
        ),
        _column("size", pa.int64(), "bytes of the object"),
        _column("last_modified", _time, "when the object was written"),
        _column("category", pa.string(), "class name that the model is told"),
        _column("error", pa.string(), "error code, null for a scored image"),
        _column("error_message", pa.string(), "what was wrong, in words"),
    ]
)

SCORE_SCHEMA = pa.schema(
    [
        *[MANIFEST_SCHEMA.field(name) for name in ("image_id", "uri", "etag")],
        _column("category", _label, "class name that the model was told"),
        _column("score", pa.float32(), "abnormal probability of the image, 0 to 1; null on error"),
        _column(
            "score_logit",
            pa.float32(),
            "logit of the score, by which to sort: scores near 1 round to the same",
        ),
        _column(
            "zero_shot_score",
            pa.float32(),
            "what AdaCLIP alone says, without references, 0 to 1",
        ),
        _column(
            "reference_score",
            pa.float32(),
            "what the references alone say, 0 to 1; null without",
        ),
        _column("map_max", pa.float32(), "highest abnormal probability in the map, 0 to 1"),
        _column("anomalous_area", pa.float32(), "share of the image with map > 0.5, 0 to 1"),
        _column(
            "box_x0",
            pa.int32(),
            "left edge, in original pixels, of the strongest region: around the map's peak, where "
            "the map is at least half of it",
        ),
        _column("box_y0", pa.int32(), "top edge"),
        _column("box_x1", pa.int32(), "right edge, exclusive"),
        _column("box_y1", pa.int32(), "bottom edge, exclusive"),
        _column("width", pa.int32(), "original width in pixels, as displayed (EXIF applied)"),
        _column("height", pa.int32(), "original height in pixels"),
        _column(
            "frames",
            pa.int32(),
            "pictures in the file, of which the first is scored: frames, or pages that are no "
            "thumbnails; 1 of a frame that has a row of its own; null where the file's structure "
            "doesn't tell, and in older rows",
        ),
        _column("map_file", pa.string(), "map shard, relative to the output; null without a map"),
        _column("map_row", pa.int32(), "row of the map in that shard"),
        _column(
            "nearest_reference",
            _label,
            "uri of the reference image most like this one; null without references",
        ),
        _column(
            "model",
            _label,
            "fingerprint of weights and every setting that changes a score, and behind +refs- the "
            "reference set, if the category has one",
        ),
        # Not "references", which SQL reserves.
        _column("reference_set", _label, "id of the category's reference set; null without"),
        _column("error", _label, "error code, null for a scored image"),
        _column("error_message", pa.string(), "what was wrong, in words"),
        _column("size", pa.int64(), "bytes of the object"),
        _column("last_modified", _time, "when the object was written"),
        _column("scored_at", _time, "when this row was made"),
        _column("run_id", _label, "run that made this row: runs/<run_id>/"),
    ],
    metadata=VERSION,
)

# Not in the files, but in their folders' names: scores/scan_date=YYYY-MM-DD/.
PARTITION_COLUMN = _column("scan_date", pa.string(), "partition, YYYY-MM-DD: the run's --scan-date")

MAP_SCHEMA = pa.schema(
    [
        MANIFEST_SCHEMA.field("image_id"),
        _column(
            "logit_grid_q8",
            pa.list_(pa.int16()),
            "abnormal minus normal logits, row by row, in steps of 1/256: divide by 256",
        ),
        _column("grid_height", pa.int16(), "rows of the grid"),
        _column("grid_width", pa.int16(), "columns of the grid"),
        _column(
            "embedding_q15",
            pa.list_(pa.int16()),
            "class embedding of the frozen pass, of unit length, in steps of 1/32,768; null unless "
            "--embeddings",
        ),
    ],
    metadata=VERSION,
)

LABELLED_SCHEMA = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False, metadata={"doc": "the image"}),
        _column("mask_uri", pa.string(), "its mask; null: empty if label is 0, unknown if it is 1"),
        _column(
            "more_mask_uris",
            pa.list_(pa.string()),
            "more masks of the same image, null for none: the defect is the union of all",
        ),
        pa.field("label", pa.int8(), nullable=False, metadata={"doc": "1 abnormal, 0 good"}),
        pa.field("category", pa.string(), nullable=False, metadata={"doc": "class name"}),
        pa.field("split", pa.string(), nullable=False, metadata={"doc": "train or test"}),
    ]
)

# Measured per row on the way through the graph; summed into report.json, never written.
TIMINGS = ("fetch_s", "decode_s", "score_s")


# How much of their range the values of an image of more than 8 bits take, from 0 to 1; null for
# others, and where --gray-range gives the range.
DEEP_SHARE = pa.field("deep_share", pa.float32())

# Which tile of its image a row is, from 0; null where there are no pixels.
TILE = pa.field("tile", pa.int32())


def pixel_schema(image_size: int) -> pa.Schema:
    """What the read stage hands to the scorers: manifest columns and uint8 HWC pixels.

    Fixed-size binary keeps a batch's pixels in one buffer, has nulls, and no 2 GiB limit.
    """
    return pa.schema(
        [
            *MANIFEST_SCHEMA,
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("frames", pa.int32()),
            pa.field("pixels", pa.binary(image_size * image_size * 3)),
            pa.field("fetch_s", pa.float32()),
            pa.field("decode_s", pa.float32()),
            DEEP_SHARE,
            TILE,
        ]
    )


def scored_schema() -> pa.Schema:
    """What the scorers hand to the writer: score columns known so far, the map, and timings."""
    from_scorer = (
        *("score", "score_logit", "zero_shot_score", "reference_score"),
        *("map_max", "anomalous_area", "box_x0", "box_y0", "box_x1", "box_y1", "width", "height"),
        "frames",
    )
    return pa.schema(
        [
            *MANIFEST_SCHEMA,
            *[SCORE_SCHEMA.field(name) for name in from_scorer],
            pa.field("nearest_reference", pa.string()),
            *[field for field in MAP_SCHEMA if field.name != "image_id"],
            *[pa.field(name, pa.float32()) for name in TIMINGS],
            pa.field("scorer_memory", pa.int64()),
            DEEP_SHARE,
            TILE,
        ]
    )


def image_id(uri: str, etag: str, model: str, category: str) -> bytes:
    """The 16-byte identity of one image under one model.

    The category is part of it because its name is part of the prompts: the same image asked as
    "bottle" and as "cable" has two scores.
    """
    key = "\0".join((uri, etag, model, category)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(key, digest_size=16).digest()


def require_columns(rows: Any, columns: Iterable[str]) -> None:
    """Refuse rows of the score table, or a single one, that lack columns.

    Args:
        rows: a frame, a series or a mapping.
        columns: that are needed.

    Raises:
        ValueError: names the missing ones and the remedy.
    """
    if missing := [name for name in columns if name not in rows]:
        raise ValueError(
            f"the rows have no {', '.join(missing)}; ask scores() for columns={missing} too"
        )
