"""What the pages about migrating say of folders, manifests, masks and lists is so."""

from __future__ import annotations

import functools
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.datasets import read_dataset
from pipeline.inputs.objects import read_input
from pipeline.storage import read_object
from tests.docs.snippets import python_blocks


def pictures(root: Path, *names: str) -> None:
    """Small pictures at these places."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)


def labels(root: Path) -> dict[str, int]:
    """What the folders say of each picture."""
    rows = read_dataset(str(root), split=None).to_pylist()
    return {row["uri"].removeprefix(f"file://{root}/"): row["label"] for row in rows}


def test_folders_of_lookout(tmp_path: Path) -> None:
    root = tmp_path / "circuit board"
    pictures(root, "train/normal/a.png", "train/anomaly/b.png", "test/normal/c.png")
    pictures(root, "test/anomaly/d.png")
    assert labels(root) == {
        "train/normal/a.png": 0,
        "train/anomaly/b.png": 1,
        "test/normal/c.png": 0,
        "test/anomaly/d.png": 1,
    }


def test_folders_of_anomalib(tmp_path: Path) -> None:
    root = tmp_path / "bolt"
    pictures(root, "good/a.png", "crack/b.png", "mask/crack/b.png", "normal_test/c.png")
    assert labels(root) == {"good/a.png": 0, "crack/b.png": 1, "normal_test/c.png": 1}


def test_a_manifest_becomes_lists_and_a_mask_turns_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [
        {
            "source-ref": f"s3://bucket/{name}.jpg",
            "anomaly-label": 1,  # the number says nothing
            "anomaly-label-metadata": {"class-name": name, "confidence": 1},
        }
        for name in ("normal", "anomaly")
    ]
    Path("train.manifest").write_text("\n".join(map(json.dumps, lines)))
    painted = np.full((4, 4, 3), 255, np.uint8)
    painted[1, 2] = (44, 160, 44)
    Image.fromarray(painted).save("mask.png")
    for block in python_blocks("docs/migrating-lookout.md"):
        exec(block, {})
    assert pd.read_csv("good.csv").uri.tolist() == ["s3://bucket/normal.jpg"]
    rows = read_dataset(str(tmp_path / "labels.csv")).to_pylist()
    assert {row["uri"]: row["label"] for row in rows} == {
        "s3://bucket/normal.jpg": 0,
        "s3://bucket/anomaly.jpg": 1,
    }
    defect = np.asarray(Image.open("defect.png"))
    assert defect[1, 2] == 255
    assert defect.sum() == 255


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """No line a request."""


def test_a_list_names_images_on_a_web_server(tmp_path: Path) -> None:
    pictures(tmp_path, "web/a.png", "beside.png")
    handler = functools.partial(_Quiet, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.png"
        list_file = tmp_path / "images.csv"
        list_file.write_text(f"uri,category\n{url},metal nut\nbeside.png,cable\n{url}.gone,nut\n")
        rows = [row for table in read_input(f"file://{list_file}") for row in table.to_pylist()]
        assert [row["category"] for row in rows] == ["metal nut", "cable", "nut"]
        assert [row["error"] for row in rows] == [None, None, "not_found"]
        assert rows[0]["last_modified"] is not None
        data, etag = read_object(url)
        assert data == (tmp_path / "web/a.png").read_bytes()
        assert etag == rows[0]["etag"]
        server.shutdown()
    list_file.write_text(f"uri\n{url}?X-Amz-Signature=abc\n")
    with pytest.raises(ValueError, match="names URIs with a password or a signature"):
        list(read_input(f"file://{list_file}"))
