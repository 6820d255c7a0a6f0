"""Images upright, as EXIF or a tag of TIFF says."""

from __future__ import annotations

from collections.abc import Callable

from PIL import ExifTags, Image

# EXIF's number of an orientation → how to turn the image so that it stands upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTED = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")  # what tells of it


def upright(image: Image.Image, *, of: Image.Image | None = None) -> Image.Image:
    """The image turned as its EXIF orientation says, or another's, and without what says so.

    Pillow's own function writes the EXIF anew, which fails for a value of another type than its
    tag's; only the pixels matter here.
    """
    image.load()  # a PNG's may stand behind its pixels
    return turned(image, _orientation(of or image))


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned by EXIF's number, and without what says so; itself, if nothing turns it."""
    turn = _TURNS.get(orientation)
    if turn is None:
        return image
    upright = image.transpose(turn)
    for name in _ORIENTED:
        upright.info.pop(name, None)
    return upright


def is_lying(image: Image.Image) -> bool:
    """Whether ``upright`` makes the width of an opened image its height."""
    return _orientation(image) >= 5


def orientation_of(segment: bytes) -> int:
    """EXIF's number in a segment of a JPEG, 0 for none."""

    def loaded() -> Image.Exif:
        exif = Image.Exif()
        exif.load(segment)
        return exif

    return _number(loaded)


def _orientation(image: Image.Image) -> int:
    return _number(image.getexif)


def _number(read: Callable[[], Image.Exif]) -> int:
    """EXIF's number, 0 for none: damaged EXIF costs no image."""
    try:
        value = read().get(ExifTags.Base.Orientation)
    except Exception:
        return 0
    if isinstance(value, bytes | tuple) and len(value) == 1:  # of another type than the tag's
        value = value[0]
    return value if isinstance(value, int) else 0
