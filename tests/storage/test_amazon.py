"""Listing S3 in parallel: every key once, whatever the tree and wherever pages and queues end."""

from __future__ import annotations

from uuid import uuid4

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.storage import amazon, list_objects
from tests.bucket import put

# Few names, so that folders hold several keys; empty ones make "a//b" and keys that begin with "/".
names = st.sampled_from(["", "a", "b", "a b", "z.png", "ü"])
keys = st.lists(names, min_size=1, max_size=5).map("/".join).filter(lambda key: key.strip("/"))


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "prefixes_ahead"), [(16, 10_000), (2, 2), (1, 1)])
@given(tree=st.sets(keys, min_size=1, max_size=30))
@settings(
    deadline=None,
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_key_is_listed_once(
    s3: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    prefixes_ahead: int,
    tree: set[str],
) -> None:
    monkeypatch.setattr(amazon, "LISTING_PAGE_KEYS", 3)
    monkeypatch.setattr(amazon, "LISTING_THREADS", threads)
    monkeypatch.setattr(amazon, "LISTING_PREFIXES_AHEAD", prefixes_ahead)
    bucket = f"tree-{uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    put(bucket, dict.fromkeys(tree, b"x"))
    for folder in ("", "a", "a b"):
        below = f"{folder}/" if folder else ""
        found = [info.uri for page in list_objects(f"s3://{bucket}/{folder}") for info in page]
        expected = {key for key in tree if key.startswith(below)} or ({folder} & tree)
        assert sorted(found) == sorted(f"s3://{bucket}/{key}" for key in expected)


def test_one_flat_prefix_of_many_pages_is_listed_in_order_and_whole(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amazon, "LISTING_PAGE_KEYS", 10)
    tree = [f"flat/{i:04d}.png" for i in range(105)]
    put(bucket, dict.fromkeys(tree, b"x"))
    pages = list(list_objects(f"s3://{bucket}/flat"))
    assert [info.uri for page in pages for info in page] == [f"s3://{bucket}/{k}" for k in tree]
    assert len(pages) == 11
