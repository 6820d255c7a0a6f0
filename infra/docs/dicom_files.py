"""DICOM files as other libraries write them, for the table of formats and the tests."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

PATIENT = "Quincey^Morris-Westenra"  # a name that stands nowhere else
_SYNTAXES = {"jpeg2k": JPEG2000Lossless, "ljpeg": JPEGLosslessSV1, "jpegls": JPEGLSLossless}
_SETTINGS: dict[str, dict[str, Any]] = {
    "jpeg2k": {"codecformat": "j2k", "level": 0, "reversible": True},
    "ljpeg": {},
    "jpegls": {},
}


def dicom(
    pixels: NDArray[Any] | None,
    bits: int,
    photometric: str = "MONOCHROME2",
    *,
    coding: str = "",
    frames: int = 1,
    more: Sequence[NDArray[Any]] = (),
    **tags: Any,
) -> bytes:
    """A file of one patient.

    Args:
        pixels: [H, W] or [H, W, 3]; None for a file without.
        bits: that are stored.
        photometric: how they are meant; a palette is gray.
        coding: rle, jpeg2k, ljpeg or jpegls; "" for none.
        frames: how many; further ones are black.
        more: or the pixels of further ones.
        tags: more of them, by their keywords.
    """
    dataset = _dataset()
    if pixels is not None:
        dataset.PhotometricInterpretation = photometric
        dataset.Rows, dataset.Columns = pixels.shape[:2]
        dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
        dataset.BitsAllocated, dataset.BitsStored = 8 * pixels.dtype.itemsize, bits
        dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
        if pixels.ndim == 3:
            dataset.PlanarConfiguration = 0
        more = more or [np.zeros_like(pixels)] * (frames - 1)
        if more:
            dataset.NumberOfFrames = 1 + len(more)
        if photometric == "PALETTE COLOR":
            _add_palette(dataset)
        _add_pixels(dataset, [pixels, *more], coding)
    for name, value in tags.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _dataset() -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["adaclip"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID = PATIENT, f"{PATIENT}-id"
    return dataset


def _add_pixels(dataset: FileDataset, frames: Sequence[NDArray[Any]], coding: str) -> None:
    if coding in _SYNTAXES:
        encode = getattr(imagecodecs, f"{coding}_encode")
        settings = dict(_SETTINGS[coding])
        if coding != "jpegls":
            settings["bitspersample"] = int(dataset.BitsStored)
        dataset.PixelData = encapsulate([bytes(encode(each, **settings)) for each in frames])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = _SYNTAXES[coding]
        return
    dataset.PixelData = b"".join(each.tobytes() for each in frames)
    dataset["PixelData"].VR = "OW"
    if coding == "rle":
        dataset.compress(RLELossless, generate_instance_uid=False)


def _add_palette(dataset: FileDataset) -> None:
    table = (np.arange(256, dtype=np.uint16) * 257).tobytes()
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table)
