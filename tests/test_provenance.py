"""What a result came from."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest

from pipeline.provenance import peak_memory_bytes, versions


def test_report_names_versions() -> None:
    found = versions()
    assert found["pyarrow"] == pa.__version__
    assert {"python", "torch", "ray", "adaclip-pipeline"} <= set(found)


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_peak_memory_is_a_processs_own_not_its_parents() -> None:
    """``getrusage`` carries it over exec; every benchmark's driver had its parent's."""
    size = 600_000_000
    parents = bytearray(b"x") * size
    code = "from pipeline.provenance import peak_memory_bytes; print(peak_memory_bytes())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert 10_000_000 < int(shown) < size < peak_memory_bytes()
    del parents
