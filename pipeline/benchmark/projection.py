"""From a measured rate to the time and money of a larger run, with what is assumed in words."""

from __future__ import annotations

from typing import Any

from . import tables

ACTORS = (1, 2, 4, 8, 16, 32, 64, 128)
COLUMNS = {"actors": "d", "hours": ",.1f", "days": ",.1f", "money": ",.2f"}
ASSUMPTIONS = (
    "every scorer is as fast as the measured ones: same device, model, image size and precision",
    "photographs are like the measured ones: decoding takes the same CPU time",
    "the rate grows with the number of scorers: enough CPUs read for them, and storage keeps up",
    "start, listing and the last block are left out, as is what reading CPUs and storage cost",
)


def project(
    result: dict[str, Any], images: float, *, price_per_gpu_hour: float | None = None
) -> dict[str, Any]:
    """Time and money of ``images`` images at the rate of one measured job.

    Args:
        result: of ``whole_job.measure_job``.
        price_per_gpu_hour: of one scorer's device.

    Raises:
        ValueError: the job was so small that it gave no rate.
    """
    rate = result["steady_images_per_s"]
    if rate is None:
        raise ValueError(
            "all images came out at once, which gives no rate to project from; raise --num-images"
        )
    per_actor = rate / result["num_actors"]
    return {
        "images": images,
        "images_per_s_per_actor": round(per_actor, 4),
        # Wall-clock time of a decoding thread: on busy CPUs it overstates what they need.
        "reading_cpus_per_actor": round(per_actor * result["read_ms_per_image"] / 1e3, 2),
        "price_per_gpu_hour": price_per_gpu_hour,
        "by_actors": [_row(images, per_actor, n, price_per_gpu_hour) for n in ACTORS],
        "storage_bytes": round(images * result["bytes_per_image"]),
        "assumptions": list(ASSUMPTIONS),
    }


def _row(images: float, per_actor: float, actors: int, price: float | None) -> dict[str, Any]:
    hours = images / (per_actor * actors) / 3600
    money = None if price is None else round(hours * actors * price, 2)
    return {
        "actors": actors,
        "hours": round(hours, 2),
        "days": round(hours / 24, 2),
        "money": money,
    }


def table(projection: dict[str, Any]) -> str:
    """The projection for a terminal."""
    return "\n".join(
        [
            f"{projection['images']:,.0f} images at {projection['images_per_s_per_actor']:.3g} "
            "images/s for each scorer, which keeps about "
            f"{projection['reading_cpus_per_actor']:.1f} CPUs decoding",
            "",
            tables.table(projection["by_actors"], COLUMNS),
            "",
            f"  scores and maps: {projection['storage_bytes'] / 1e9:,.1f} GB",
            "  assumed:",
            *(f"  - {each}" for each in projection["assumptions"]),
        ]
    )
