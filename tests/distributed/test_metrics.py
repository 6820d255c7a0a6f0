"""Metrics as Prometheus reads them from a Ray node."""

from __future__ import annotations

import time
import urllib.request

import pyarrow as pa
import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from pipeline.distributed.metrics import (
    BACKLOG,
    ERRORS,
    IMAGES_SCORED,
    STAGE_SECONDS,
    ScanMetrics,
)
from pipeline.schema import scored_schema

pytestmark = pytest.mark.usefixtures("local_ray")
EXPORT_TIMEOUT_S = 60.0  # Ray exports every 10 s


def rows(scored: int, **errors: int) -> pa.Table:
    made = [{"score": 0.5, "fetch_s": 0.25, "decode_s": 0.5, "score_s": 1.0}] * scored
    made += [{"error": code} for code, count in errors.items() for _ in range(count)]
    return pa.Table.from_pylist(made, schema=scored_schema())


def exported(source: str) -> dict[tuple[str, ...], float]:
    """What the node exports of a source: values by name and tags."""
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        (sample.name, *(sample.labels[tag] for tag in ("code", "stage") if tag in sample.labels)): (
            sample.value
        )
        for family in families
        for sample in family.samples
        if sample.labels.get("source") == source
    }


def test_a_scan_is_seen_by_prometheus() -> None:
    first = ScanMetrics("camera 4", backlog=20)
    first.add(rows(4, truncated=2))
    first.add(rows(5, truncated=1, empty=1))
    ScanMetrics("camera 5", backlog=7)  # a second scan of the same driver
    expected = {
        (f"ray_{IMAGES_SCORED}_total",): 9,
        (f"ray_{ERRORS}_total", "truncated"): 3,
        (f"ray_{ERRORS}_total", "empty"): 1,
        (f"ray_{BACKLOG}",): 7,
        (f"ray_{STAGE_SECONDS}_total", "fetch"): 2.25,
        (f"ray_{STAGE_SECONDS}_total", "decode"): 4.5,
        (f"ray_{STAGE_SECONDS}_total", "score"): 9.0,
    }
    deadline = time.monotonic() + EXPORT_TIMEOUT_S
    found: dict[tuple[str, ...], float] = {}
    while time.monotonic() < deadline and expected.items() - found.items():
        time.sleep(0.5)
        found = exported("camera 4")
    assert expected.items() <= found.items()
    assert exported("camera 5")[f"ray_{BACKLOG}",] == 7
