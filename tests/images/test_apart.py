"""Decoding in a process of its own gives the same, and ends nothing else."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from infra.docs.formats import CASES
from pipeline.images import ImageError, apart, decode
from pipeline.schema import ErrorCode

BY_WORDS = {each.words: each for each in CASES}
DEEP = BY_WORDS["DICOM, unsigned gray without a window"]


def test_pixels_and_what_is_told_of_them_are_the_same() -> None:
    for gray_range in (None, DEEP.gray_range):
        here = decode(DEEP.make(), gray_range=gray_range)
        there = decode(DEEP.make(), gray_range=gray_range, apart=True)
        np.testing.assert_array_equal(np.asarray(there), np.asarray(here))
        assert there.info == here.info


@pytest.mark.parametrize(
    "words", ["DICOM, signed gray without a window", "JPEG XL, floating point"]
)
def test_errors_are_the_same(words: str) -> None:
    data, told = BY_WORDS[words].make(), []
    for is_apart in (False, True):
        with pytest.raises(ImageError) as refused:
            decode(data, apart=is_apart)
        told.append((refused.value.code, str(refused.value)))
    assert told[0] == told[1]
    with pytest.raises(ImageError) as refused:
        decode(data, apart=True, max_megapixels=0.0001)
    assert (refused.value.code, refused.value.width) == (ErrorCode.TOO_LARGE, 40)


def test_a_decoder_that_ends_its_process_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    run = subprocess.run
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"

    def dying(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        return run([command[0], "-c", code], **options)

    monkeypatch.setattr(subprocess, "run", dying)
    with pytest.raises(ImageError, match="ended its process") as refused:
        decode(DEEP.make(), apart=True)
    assert refused.value.code == ErrorCode.KILLED_READER


def test_a_decoder_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SECONDS", 0.001)
    with pytest.raises(ImageError, match="was not done after") as refused:
        decode(DEEP.make(), apart=True)
    assert refused.value.code == ErrorCode.KILLED_READER


@pytest.mark.parametrize(
    "words", ["PNG, 16-bit gray that uses 12", "TIFF, int16, int32, uint32 gray", "HEIC"]
)
def test_what_pillow_reads_or_nobody_starts_no_process(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    with suppress(ImageError):
        decode(BY_WORDS[words].make(), gray_range=BY_WORDS[words].gray_range, apart=True)
