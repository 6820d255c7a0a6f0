"""The command hands its settings on and writes what was measured, with what it was measured on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs import benchmark_options


def test_the_document_names_hardware_versions_and_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def measured(**arguments: Any) -> list[dict[str, Any]]:
        given.update(arguments)
        return [{"option": "none", "speed_up": 1.0}]

    output = tmp_path / "options.json"
    monkeypatch.setattr(benchmark_options, "measure_options", measured)
    command = ["benchmark_options", "--repeats", "2", "--native-size", "224", "--output"]
    monkeypatch.setattr(sys, "argv", [*command, str(output)])
    benchmark_options.main()
    document = json.loads(output.read_text())
    assert (given["repeats"], given["native"]) == (2, 224)
    assert document["results"] == [{"option": "none", "speed_up": 1.0}]
    assert document["settings"]["native_size"] == 224
    assert document["hardware"]["cores"] >= 1
    assert "torch" in document["versions"]
