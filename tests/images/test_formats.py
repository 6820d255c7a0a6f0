"""Every file of the table in docs/inputs.md: its pixels, its frames, and what lacks an extra."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

import imagecodecs
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from infra.docs.format_case import Case, Shown
from infra.docs.formats import CASES
from pipeline.gray_range import GrayRange
from pipeline.images import ImageError, decode, to_square
from pipeline.images.extras import PACKAGES, Extra
from pipeline.schema import ErrorCode
from tests.image_files import fast_square, hide_extras

BY_WORDS = {each.words: each for each in CASES}


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterable[Extra]:
    """Hides the packages of extras."""
    hidden: tuple[Extra, ...] = request.param
    hide_extras(monkeypatch, *hidden)
    return hidden


def check(case: Case, expected: Shown | ErrorCode, gray_range: GrayRange | None) -> None:
    data = case.make()
    if isinstance(expected, ErrorCode):
        with pytest.raises(ImageError) as refused:
            decode(data, gray_range=gray_range)
        assert refused.value.code == expected
        return
    image = decode(data, gray_range=gray_range)
    pixels = expected.pixels if expected.pixels.ndim == 3 else expected.pixels[..., None]
    wanted = np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(int)
    assert np.asarray(image).shape == wanted.shape
    assert abs(np.asarray(image).astype(int) - wanted).max() <= expected.tolerance
    for square in (to_square(image, 8), fast_square(data, 8, gray_range=gray_range)):
        assert (square.width, square.height) == image.size
        assert square.frames == case.frames


def test_the_words_of_the_table_tell_its_files_apart() -> None:
    assert len(BY_WORDS) == len(CASES)


@pytest.mark.parametrize("words", BY_WORDS)
def test_a_file_becomes_what_the_table_says(words: str) -> None:
    check(BY_WORDS[words], BY_WORDS[words].plain, None)


@pytest.mark.parametrize("words", BY_WORDS)
def test_a_file_becomes_what_the_table_says_with_a_range(words: str) -> None:
    check(BY_WORDS[words], BY_WORDS[words].ranged, BY_WORDS[words].gray_range)


@pytest.mark.parametrize("words", [each.words for each in CASES if not each.extras])
@pytest.mark.parametrize("without", [("formats", "dicom")], indirect=True)
def test_what_needs_no_extra_needs_none(words: str, without: Iterable[Extra]) -> None:
    check(BY_WORDS[words], BY_WORDS[words].plain, None)


@pytest.mark.parametrize(
    ("case", "without"),
    [
        (each, (extra,))
        for each in CASES
        for extra in (*each.extras, *each.ranged_extras)
        if not (extra == "formats" and "dicom" in each.extras)
    ],
    indirect=["without"],
    ids=lambda value: value.words if isinstance(value, Case) else "".join(value),
)
def test_an_extra_that_is_not_there_is_named(case: Case, without: Iterable[Extra]) -> None:
    with pytest.raises(ImageError) as refused:
        decode(case.make(), gray_range=case.gray_range)
    assert refused.value.code == ErrorCode.UNSUPPORTED_MODE
    [extra] = without
    assert f'needs pip install "adaclip-pipeline[{extra}]"; or ' in str(refused.value)
    assert str(refused.value).endswith("before upload")


@pytest.mark.parametrize("without", [("formats",)], indirect=True)
def test_a_compressed_dicom_file_may_need_both_extras(without: Iterable[Extra]) -> None:
    with pytest.raises(ImageError, match=r'pip install "adaclip-pipeline\[dicom,formats\]"'):
        decode(BY_WORDS["DICOM, lossless JPEG inside"].make())


def test_no_package_of_an_extra_is_loaded_for_what_pillow_reads() -> None:
    """It would be half a second of every reader."""
    names = [name for packages in PACKAGES.values() for name in packages]
    script = (
        "import io, sys\nfrom PIL import Image\nfrom pipeline.images import decode\n"
        "buffer = io.BytesIO()\nImage.new('RGB', (8, 8)).save(buffer, 'PNG')\n"
        f"decode(buffer.getvalue())\nprint([n for n in {names} if n in sys.modules])"
    )
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "[]\n"


GRADIENT = np.arange(20 * 30).reshape(20, 30)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "data",
    [
        imagecodecs.jpeg8_encode((GRADIENT * 6).astype(np.uint16), bitspersample=12),
        imagecodecs.jpeg8_encode((GRADIENT // 3).astype(np.uint8), lossless=True),
        imagecodecs.jpegls_encode((GRADIENT * 6).astype(np.uint16)),
    ],
    ids=["12 bits", "lossless", "JPEG-LS"],
)
def test_jpegs_that_pillow_does_not_read_are_upright_too(data: bytes, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    segment = b"\xff\xe1" + (len(exif.tobytes()) + 2).to_bytes(2, "big") + exif.tobytes()
    as_stored, upright = decode(data), decode(data[:2] + segment + data[2:])
    shown = Image.fromarray(np.asarray(as_stored))
    shown.getexif()[ExifTags.Base.Orientation] = orientation
    np.testing.assert_array_equal(np.asarray(upright), np.asarray(ImageOps.exif_transpose(shown)))
    damaged = decode(data[:2] + segment.replace(b"MM\0*", b"XX\0*") + data[2:])
    np.testing.assert_array_equal(np.asarray(damaged), np.asarray(as_stored))
