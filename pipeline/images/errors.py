"""What images fail with."""

from __future__ import annotations

from pipeline.schema import ErrorCode


class ImageError(ValueError):
    """Bytes that give no pixels."""

    def __init__(
        self, code: ErrorCode, message: str, *, width: int | None = None, height: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.width, self.height = width, height


def too_large(width: int, height: int, max_megapixels: float, depth: str = "") -> ImageError:
    """An image above the limit, with its size."""
    return ImageError(
        ErrorCode.TOO_LARGE,
        f"{width} x {height} pixels{depth}; the limit is {max_megapixels:g} megapixels",
        width=width,
        height=height,
    )
