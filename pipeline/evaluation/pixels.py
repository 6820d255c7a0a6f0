"""Pixel metrics of any number of anomaly maps in bounded memory, by histograms that merge.

A histogram counts the normal and the defective pixels of about a million bins of map values, and
sums the defective ones weighted by 1 / size of their region, which is all that AUPRO needs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .ranking import Estimate, area_under_curve, average_precision, max_f1

# Maps crowd near 0 and 1, where 0.001 and 0.0001 are worlds apart, but those of a poor model crowd
# anywhere. So a bin is where two grids agree: one of even steps, one of relative steps of the
# distance to the nearer end. Float32's own bits give both, the same on any machine.
EVEN_STEPS = 2**19  # over [0, 1]: 1.9e-6 wide
_SHIFT = 11  # of 23 mantissa bits: 4,096 relative steps between a distance and its double
_HALF_BITS = 126 << 23  # float32's bits of 0.5
_NEAR_ONE_BITS = 102 << 23  # of 2^-25: below 1, no float32 is nearer to 1 than 2^-24
_BINS_BELOW_HALF = EVEN_STEPS // 2 + (_HALF_BITS >> _SHIFT)
_BINS_FROM_HALF = EVEN_STEPS // 2 + ((_HALF_BITS - _NEAR_ONE_BITS) >> _SHIFT)
NUM_BINS = _BINS_BELOW_HALF + _BINS_FROM_HALF + 1  # 1,138,689

# Logits have no ends to crowd at: a step of them is a relative step of the distance to 0 or 1. Here
# a bin is where three grids agree: one of even steps over stored maps' range, a finer one around 0,
# where poor models' maps lie, and one of relative steps, of the tiniest and of what is beyond.
_LOGIT_GRIDS = ((128.0, 2**11), (8.0, 2**15))  # largest logit, and steps of one logit
_LEAST_LOGIT_BITS = 111 << 23  # float32's bits of 2^-16, where relative steps begin
_MOST_LOGIT_BITS = (127 + 9) << 23  # of 512, where they end
_BINS_OF_A_SIGN = sum(int(most) * steps for most, steps in _LOGIT_GRIDS) + (
    (_MOST_LOGIT_BITS - _LEAST_LOGIT_BITS) >> _SHIFT
)
NUM_LOGIT_BINS = 2 * _BINS_OF_A_SIGN + 1  # 1,253,377

CHUNK = 2**15  # values added at a time, whose arrays stay in a core's cache

PRO_LIMIT = 0.3  # false positive rate (Bergmann et al., "The MVTec Anomaly Detection Dataset")
CONNECTED = np.ones((3, 3), dtype=int)  # 8 neighbours, as in MVTec's evaluation code
ROUNDING = 1e-6  # by which filters in float32 may leave [0, 1]

PIXEL_METRICS = ("pixel_auroc", "pixel_ap", "pixel_max_f1", "pixel_aupro")

HISTOGRAM_SCHEMA = pa.schema(
    [
        pa.field("num_images", pa.int64()),
        pa.field("num_regions", pa.int64()),
        pa.field("bins", pa.list_(pa.int32())),
        pa.field("negatives", pa.list_(pa.int64())),
        pa.field("positives", pa.list_(pa.int64())),
        pa.field("overlap", pa.list_(pa.float64())),
        pa.field("value", pa.list_(pa.float32())),  # null: not all of the bin are equal
    ]
)


# What is looked up for every pixel lies side by side, in one line of a core's cache.
_CELL = np.dtype([("negatives", np.int64), ("value", np.float32)], align=True)
_EMPTY, _SEVERAL = np.float32(np.inf), np.float32(np.nan)  # values of a cell


class PixelHistogram:
    """Pixels of maps and masks by map value; 40 MB at most, however many pixels.

    Adding images one by one, or merging the histograms of their parts in any order, gives the same
    counts exactly and the same AUPRO to rounding in float64.
    """

    def __init__(self, *, logits: bool = False) -> None:
        """Begin without pixels.

        Args:
            logits: maps are logits instead of probabilities.
        """
        self._logits = logits
        self.num_images = 0
        """Images added."""
        self.num_regions = 0
        """Connected regions of their masks."""
        num_bins = NUM_LOGIT_BINS if logits else NUM_BINS
        cells = np.zeros(num_bins, dtype=_CELL)
        self._negatives: NDArray[np.int64] = cells["negatives"]
        # A bin whose pixels all have one value holds a tie, about which nothing is unknown.
        self._value: NDArray[np.float32] = cells["value"]
        self._value[:] = _EMPTY
        self._positives = np.zeros(num_bins, dtype=np.int64)
        self._overlap = np.zeros(num_bins, dtype=np.float64)

    def add(self, anomaly_map: NDArray[np.float32], mask: NDArray[Any]) -> None:
        """Add the pixels of one image.

        Args:
            anomaly_map: float32 [H, W] in [0, 1], or finite logits.
            mask: [H, W], true, 1 or 255 on the defect; empty for a good image.

        Raises:
            ValueError: the shapes differ, a value of the map is not in [0, 1] or, of logits, not
                finite, or the mask holds other values.
        """
        if anomaly_map.ndim != 2 or anomaly_map.shape != mask.shape:
            raise ValueError(f"a map of shape {anomaly_map.shape}, a mask of shape {mask.shape}")
        values = np.asarray(anomaly_map, dtype=np.float32)
        if self._logits:
            if not np.isfinite(values).all():
                raise ValueError("a value of the map is not finite")
        elif not ((values >= -ROUNDING) & (values <= 1 + ROUNDING)).all():
            raise ValueError("a value of the map is not in [0, 1]")
        else:
            values = np.clip(values, 0, 1)
        mask = _as_booleans(mask)
        flat = values.ravel()
        for start in range(0, flat.size, CHUNK):
            self._add_normal(flat[start : start + CHUNK])
        if mask.any():
            self._turn_defective(values, mask)
        self.num_images += 1

    def _bins(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        return logit_bins_of(values) if self._logits else bins_of(values)

    def _add_normal(self, values: NDArray[np.float32]) -> None:
        bins = self._bins(values)
        np.add.at(self._negatives, bins, 1)
        self._note(bins, values)

    def _note(self, bins: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """Keep the value of bins with a single one; most soon have several, which stay as is."""
        known = self._value[bins]
        news = np.flatnonzero((known < values) | (known > values))  # neither, if it is _SEVERAL
        bins, values, known = bins[news], values[news], known[news]
        first = known == _EMPTY
        self._value[bins[first]] = values[first]
        self._value[bins[self._value[bins] != values]] = _SEVERAL

    def _turn_defective(self, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Count the pixels of a mask, which were added as normal ones, where they belong."""
        from scipy import ndimage  # not above: drivers name the figures, and measure none

        around = _extent(mask.any(axis=1)), _extent(mask.any(axis=0))
        mask, values = mask[around], values[around]
        regions, num_regions = ndimage.label(mask, structure=CONNECTED)
        found, bins = regions[mask], self._bins(values[mask])
        weights = 1.0 / np.maximum(np.bincount(found, minlength=num_regions + 1), 1)
        np.subtract.at(self._negatives, bins, 1)
        np.add.at(self._positives, bins, 1)
        np.add.at(self._overlap, bins, weights[found])
        self.num_regions += num_regions

    def merge(self, other: PixelHistogram) -> None:
        """Add everything that another histogram holds.

        Raises:
            ValueError: one is of logits and the other of probabilities.
        """
        if self._logits != other._logits:
            raise ValueError("a histogram of logits and one of probabilities do not merge")
        self.merge_row(other.to_row())

    def merge_row(self, row: pa.Table) -> None:
        """Add a histogram of the same kind that ``to_row`` made elsewhere."""
        arrays = {
            name: row.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)
            for name in HISTOGRAM_SCHEMA.names[2:]
        }
        bins = arrays["bins"]
        self.num_images += row["num_images"][0].as_py()
        self.num_regions += row["num_regions"][0].as_py()
        self._negatives[bins] += arrays["negatives"]
        self._positives[bins] += arrays["positives"]
        self._overlap[bins] += arrays["overlap"]
        self._note(bins, arrays["value"])
        self._value[bins[np.isnan(arrays["value"])]] = _SEVERAL

    def to_row(self) -> pa.Table:
        """One row of ``HISTOGRAM_SCHEMA`` with the bins that hold anything: 32 bytes each."""
        bins = self._occupied()
        columns: list[pa.Array] = [pa.array([self.num_images]), pa.array([self.num_regions])]
        for values in (
            bins.astype(np.int32),
            *(array[bins] for array in (self._negatives, self._positives, self._overlap)),
            self._value[bins],
        ):
            array = pa.array(values, from_pandas=True)  # NaN is null
            columns.append(pa.ListArray.from_arrays([0, len(values)], array))
        return pa.table(columns, schema=HISTOGRAM_SCHEMA)

    def metrics(self) -> dict[str, float]:
        """AUROC, average precision, max-F1 and AUPRO over all pixels, and bounds of their errors.

        AUPRO is MVTec's: the mean overlap of the thresholded map with each connected region,
        against the share of all normal pixels above the threshold, integrated up to ``PRO_LIMIT``
        and divided by it.

        Returns:
            ``pixel_auroc``, ``pixel_ap``, ``pixel_max_f1``, ``pixel_aupro`` in [0, 1], each with
            ``<name>_error``: the most by which binning can have moved it. NaN unless there are
            both normal and defective pixels.
        """
        bins = self._occupied()[::-1]
        negatives, positives = self._negatives[bins], self._positives[bins]
        found = dict.fromkeys(PIXEL_METRICS, Estimate(np.nan, np.nan))
        if negatives.any() and positives.any():
            ties = ~np.isnan(self._value[bins])
            overlap = self._overlap[bins]
            found = {
                "pixel_auroc": area_under_curve(negatives, positives, ties),
                "pixel_ap": average_precision(negatives, positives, ties),
                "pixel_max_f1": max_f1(negatives, positives, ties),
                "pixel_aupro": area_under_curve(negatives, overlap, ties, PRO_LIMIT),
            }
        values = {name: estimate.value for name, estimate in found.items()}
        return values | {f"{name}_error": estimate.error for name, estimate in found.items()}

    def _occupied(self) -> NDArray[np.int64]:
        occupied: NDArray[np.int64] = np.flatnonzero(self._negatives + self._positives)
        return occupied


def _as_booleans(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """A mask of numbers would index where a mask of booleans selects."""
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ and not np.isin(mask, (0, 1, 255)).all():
        raise ValueError("a mask holds other values than 0 and 1 (or 255); give true on the defect")
    return mask.astype(bool)


def _extent(some: Any) -> slice:
    """From the first to the last that is true."""
    places = np.flatnonzero(some)
    return slice(places[0], places[-1] + 1)


def bins_of(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Bins of map values, in [0, ``NUM_BINS``): never a lower one for a higher value.

    Args:
        values: float32 in [0, 1].
    """
    below = values < 0.5
    nearer = np.minimum(np.abs(values), 1 - values)  # from 0.5 on, 1 − value is exact
    distance = (nearer * np.float32(EVEN_STEPS)).astype(np.int32)
    steps = nearer.view(np.int32) >> _SHIFT
    distance += np.where(below, steps, np.maximum(steps - (_NEAR_ONE_BITS >> _SHIFT), 0))
    bins = np.where(below, distance, NUM_BINS - 1 - distance)
    return bins.astype(np.int64)


def logit_bins_of(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Bins of logits, in [0, ``NUM_LOGIT_BINS``): never a lower one for a higher value.

    Args:
        values: float32, finite.
    """
    size = np.abs(values)
    relative = np.clip(size.view(np.int32), _LEAST_LOGIT_BITS, _MOST_LOGIT_BITS)
    distance = (relative - _LEAST_LOGIT_BITS).astype(np.int64) >> _SHIFT
    for most, steps in _LOGIT_GRIDS:
        distance += (np.minimum(size, np.float32(most)) * np.float32(steps)).astype(np.int64)
    bins: NDArray[np.int64] = _BINS_OF_A_SIGN + np.where(values < 0, -distance, distance)
    return bins
