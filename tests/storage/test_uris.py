"""URIs are spelled in one way."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.storage import absolute, absolute_prefix


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a b/%20#+?/", "s3://bucket/a b/%20#+?"),
        ("s3://bucket/a//b", "s3://bucket/a//b"),
        ("s3a://bucket/a", "s3://bucket/a"),
        ("gcs://bucket/a", "gs://bucket/a"),
        ("/data/images/", "file:///data/images"),
        ("/data//images/../other", "file:///data/other"),
        ("file:///data//images/", "file:///data/images"),
        ("local:///data", "file:///data"),
        ("file:///", "file:///"),
    ],
)
def test_absolute_spells_a_uri_in_one_way(given: str, expected: str) -> None:
    assert absolute(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3a://b/in/", "s3://b/in/"),
        ("s3://b/in/a", "s3://b/in/a"),
        ("/photos/metal casting/", "file:///photos/metal casting/"),
        ("file:///photos//good/../bad", "file:///photos/bad"),
        ("/", "file:///"),
        ("s3://", "s3://"),
    ],
)
def test_a_prefix_is_spelled_like_the_uris_that_begin_with_it(given: str, expected: str) -> None:
    assert absolute_prefix(given) == expected


def test_absolute_resolves_home_and_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert absolute("images") == f"file://{tmp_path}/images"
    assert absolute("~/images") == "file:///home/someone/images"
