"""What others control (objects, names, weights) does no harm, and secrets stay where they are."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from infra.docs.dicom_files import PATIENT, dicom
from infra.local import RayCluster, ray_cluster
from pipeline.config import ScoreConfig
from pipeline.identity import ModelIdentity
from pipeline.images import FORMATS
from pipeline.inputs.manifest import build_manifest
from pipeline.models import load_adaclip
from pipeline.models.weight_files import read_state_dict
from pipeline.output.ledger import IdSet
from tests import golden
from tests.bucket import jpeg, put

ROOT = Path(__file__).parents[1]
CANARIES = {
    "AWS_SECRET_ACCESS_KEY": "canary/aws+secret/0123456789",
    "AWS_SESSION_TOKEN": "canary/aws+session/0123456789",
    "HF_TOKEN": "hf_canary0123456789",
    "SLACK_WEBHOOK_URL": "https://hooks.example/services/canary0123456789",
}
PASSWORD = "canarypassword0123456789"  # in the URL of an S3 endpoint that does not work
HOSTILE = "bolt\x1b]0;owned\x07\x9b31m\u202e<script>alert(1)</script>\r"  # moto knows no line feeds
CHILD_MEMORY = 64 * 2**20  # the smallest of the bombs would take four times as much


@pytest.fixture(scope="module")
def secrets(s3: dict[str, str]) -> dict[str, str]:
    """An environment full of canaries."""
    return {**s3, **CANARIES}


@pytest.fixture(scope="module")
def cluster(secrets: dict[str, str]) -> Iterator[RayCluster]:
    """A cluster whose every process has the canaries."""
    with ray_cluster(num_cpus=3, environment=secrets) as running:
        yield running


@pytest.fixture
def denying() -> Iterator[str]:
    """Address of an S3 server that denies everything, and says why as S3 does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<Error><Code>SignatureDoesNotMatch</Code><Message>No.</Message></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(cluster: RayCluster, secrets: dict[str, str], golden_files: dict[str, str]) -> Run:
    """Runs the scoring job as users do; asserts that its terminal shows no canary."""

    def run(*flags: str, environment: dict[str, str] | None = None, **files: str) -> Any:
        weights = {**golden_files, **files}
        command = [sys.executable, "jobs/score_bucket.py", "--address", cluster.gcs_address]
        command += [f"--{name.replace('_', '-')}={value}" for name, value in weights.items()]
        finished = subprocess.run(
            [*command, f"--image-size={golden.IMAGE_SIZE}", "--max-error-rate=0.9", *flags],
            cwd=ROOT,
            env={**os.environ, **secrets, **cluster.environment, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert_no_canary(cluster, finished.stdout + finished.stderr)
        return finished

    return run


def assert_no_canary(cluster: RayCluster, text: str) -> None:
    planted = [*CANARIES.values(), PASSWORD, cluster.environment["RAY_AUTH_TOKEN"]]
    assert [canary for canary in planted if canary in text] == []


def stored(bucket: str) -> dict[str, str]:
    """Everything a job wrote, as text by key."""
    client = boto3.client("s3")
    keys = [o["Key"] for o in client.list_objects_v2(Bucket=bucket, Prefix="out/")["Contents"]]
    found = {}
    for key in keys:
        data = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        if key.endswith(".parquet"):
            found[key] = str(pq.read_table(io.BytesIO(data)).to_pydict())
        else:
            found[key] = data.decode()
    return found


def ray_logs() -> str:
    """The logs of all local clusters there are, which is at least this one."""
    files = [path for path in Path("/tmp").glob("ray-*/session_*/logs/**/*") if path.is_file()]
    assert files
    return "".join(path.read_text(errors="replace") for path in files)


def test_a_run_tells_no_secret_and_obeys_no_name(
    cluster: RayCluster, bucket: str, run: Run, tmp_path: Path
) -> None:
    """Hostile names of keys and categories, readable and not, in an environment of secrets."""
    keys = [f"in/{HOSTILE}/{i}{HOSTILE}.jpg" for i in range(3)] + ["in/..\\..\\up/x.jpg"]
    put(bucket, {key: jpeg(i) for i, key in enumerate(keys)})
    put(bucket, {f"in/{HOSTILE}/broken\x1b[2J.jpg": b"broken", f"in/{'n' * 900}.jpg": b""})
    missing = f"s3://{bucket}/gone/{HOSTILE}.jpg"  # its error's message quotes the name
    pq.write_table(pa.table({"uri": [missing]}), tmp_path / "list.parquet")
    inputs = (f"--input=s3://{bucket}/in", f"--input={tmp_path}/list.parquet")
    done = run(*inputs, f"--output=s3://{bucket}/out")
    assert done.returncode == 0, done.stderr
    assert r"bolt\x1b]0;owned\x07\x9b31m\u202e<script>" in done.stdout
    shown = done.stdout + done.stderr  # where Ray puts tabs and bold type of its own
    assert [c for c in ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e") if c in shown] == []
    written = stored(bucket)
    assert all(
        re.fullmatch(r"out/(lock\.json|(scores|maps|runs)/[\w=./-]+)", key) for key in written
    )
    assert_no_canary(cluster, "".join(written.values()))
    [page] = [text for key, text in written.items() if key.endswith("/report.html")]
    assert "</script><script>alert" not in page.replace("\\", "")
    assert "<script>alert(1)" not in page
    assert r"\u003cscript\u003ealert(1)" in page
    scores = pq.read_table(f"s3://{bucket}/out/scores")
    assert {uri.removeprefix(f"s3://{bucket}/") for uri in scores["uri"].to_pylist()} >= set(keys)
    assert_no_canary(cluster, ray_logs())


@pytest.mark.parametrize("frames", ["first", "all"])
def test_a_run_over_dicom_files_tells_nothing_of_a_patient(
    frames: str, cluster: RayCluster, bucket: str, run: Run
) -> None:
    """Good ones, damaged ones, and one without pixels whose comment is the patient's name."""
    good = dicom(
        np.arange(2400, dtype=np.uint16).reshape(40, 60), 12, WindowCenter=9, WindowWidth=99
    )
    assert good.count(PATIENT.encode()) == 2
    files = {f"in/scan/{i}.dcm": good[: len(good) - 700 * i] for i in range(6)}
    files["in/scan/report.dcm"] = dicom(None, 0, PatientComments=PATIENT)
    files["in/scan/odd.dcm"] = good.replace(b"MONOCHROME2", b"Quincey^Mor")
    pixels = np.arange(2400, dtype=np.uint16).reshape(40, 60)
    files["in/scan/series.dcm"] = dicom(pixels, 12, frames=3, PatientComments=PATIENT)
    put(bucket, files)
    done = run(
        f"--input=s3://{bucket}/in", f"--output=s3://{bucket}/out", f"--dicom-frames={frames}"
    )
    assert done.returncode == 0, done.stderr
    written = "".join(stored(bucket).values())
    name = PATIENT.partition("^")[0]
    assert name not in written + done.stdout + done.stderr + ray_logs()
    rows = pq.read_table(f"s3://{bucket}/out/scores").to_pylist()
    assert len(rows) == len(files) + (2 if frames == "all" else 0)
    assert {row["error"] for row in rows} == {None, "truncated", "not_an_image", "unsupported_mode"}


def test_a_denied_bucket_tells_no_secret(run: Run, denying: str, tmp_path: Path) -> None:
    endpoint = {"AWS_ENDPOINT_URL": f"http://me:{PASSWORD}@{denying}"}
    denied = run("--input=s3://bucket/in", f"--output={tmp_path}/out", environment=endpoint)
    assert denied.returncode == 2
    assert "an input can't be listed" in denied.stderr
    assert PASSWORD not in "".join(p.read_text() for p in tmp_path.rglob("*.json"))


def test_an_endpoint_that_is_not_there_tells_no_secret(
    cluster: RayCluster, run: Run, tmp_path: Path
) -> None:
    """Botocore's message quotes the endpoint's whole URL."""
    endpoint = {"AWS_ENDPOINT_URL": f"http://me:{PASSWORD}@127.0.0.1:9"}
    flags = "--input=s3://bucket/in", f"--output={tmp_path}/out"
    for more in ([], ["--since=2d"]):  # refused before anything is written, and by the run itself
        failed = run(*flags, *more, environment=endpoint)
        assert failed.returncode == 2
        assert "http://***@127.0.0.1:9/bucket" in failed.stderr
    (report,) = (tmp_path / "out" / "runs").glob("*/report.json")
    assert json.loads(report.read_text())["status"] == "failed"
    assert_no_canary(cluster, report.read_text())
    assert_no_canary(cluster, report.with_name("report.html").read_text())


def test_a_wrong_checkpoint_tells_no_secret(run: Run, bucket: str) -> None:
    put(bucket, {"in/a.jpg": jpeg(0), "evil.pth": b"cos\nsystem\n(S'true'\ntR."})
    refused = run(
        f"--input=s3://{bucket}/in",
        f"--output=s3://{bucket}/out",
        checkpoint=f"s3://{bucket}/evil.pth",
    )
    assert refused.returncode == 2
    assert "can't be read as plain weights" in refused.stderr


def test_a_list_of_signed_urls_is_refused(tmp_path: Path) -> None:
    """The manifest and every row would repeat the signatures."""
    listing = tmp_path / "list.csv"
    listing.write_text(f"uri\ns3://b/ok.jpg\nhttps://b.example/k.jpg?X-Amz-Signature={PASSWORD}\n")
    config = ScoreConfig(input=(str(listing),), output=str(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"list\.csv names URIs with a password or a") as refused:
        build_manifest(config, ModelIdentity("m"), IdSet(), str(tmp_path / "manifest"))
    assert PASSWORD not in str(refused.value)


# --- images that are larger than they look ---------------------------------------------------


def encoded(file_format: str) -> bytearray:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, file_format)
    return bytearray(buffer.getvalue())


def bomb(file_format: str) -> bytes:
    """A small file whose header claims at least 180 megapixels."""
    data = encoded(file_format)
    if file_format == "PPM":
        return b"P6 60000 60000 255\n" + bytes(100)
    if file_format == "TIFF":  # two tags: 16 pixels as a short or long
        for tag in (256, 257):
            kind = 3 if (short := struct.pack("<HHL", tag, 3, 1)) in data else 4
            at = data.index(short if kind == 3 else struct.pack("<HHL", tag, 4, 1))
            data[at : at + 12] = struct.pack("<HHLL", tag, 4, 1, 60_000)
        return bytes(data)
    place, size = {
        "PNG": (16, struct.pack(">LL", 60_000, 60_000)),
        "BMP": (18, struct.pack("<ll", 30_000, 30_000)),
        "GIF": (6, struct.pack("<HH", 65_535, 65_535)),
        "JPEG": (data.find(b"\xff\xc0") + 5, struct.pack(">HH", 65_500, 65_500)),
        "WEBP": (26, struct.pack("<HH", 16_383, 16_383)),
        "JPEG2000": (data.find(b"ihdr") + 4, struct.pack(">LL", 60_000, 60_000)),
        "AVIF": (data.find(b"ispe") + 8, struct.pack(">LL", 30_000, 30_000)),
    }[file_format]
    data[place : place + len(size)] = size
    if file_format == "PNG":
        data[29:33] = struct.pack(">L", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize("file_format", FORMATS)
def test_absurd_dimensions_are_refused_before_allocation(file_format: str) -> None:
    """In a process of its own, whose memory is all that Pillow's C code allocates, too."""
    code = (
        "import sys; from pipeline.images import ImageError, decode\n"
        "from pipeline.provenance import peak_memory_bytes\n"
        "data = sys.stdin.buffer.read(); before = peak_memory_bytes()\n"
        "try: decode(data)\n"
        "except ImageError as error: print(error.code, peak_memory_bytes() - before)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], input=bomb(file_format), capture_output=True, cwd=ROOT
    )
    assert child.returncode == 0, child.stderr.decode()
    found, grown = child.stdout.decode().split()
    # libavif itself refuses a header that its own data contradicts.
    assert found == ("not_an_image" if file_format == "AVIF" else "too_large")
    assert int(grown) < CHILD_MEMORY


# --- weights that are programs ---------------------------------------------------------------


def test_a_torchscript_archive_that_runs_code_is_refused_and_not_run(tmp_path: Path) -> None:
    """Its ``__setstate__`` would write a file wherever it likes."""
    proof, path = tmp_path / "it-ran.pt", tmp_path / "evil.pt"
    source = tmp_path / "evil.py"
    source.write_text(EVIL_MODULE.format(proof=proof))
    make = f"import sys, torch; sys.path.insert(0, {str(tmp_path)!r}); import evil; "
    make += f"torch.jit.script(evil.Evil()).save({str(path)!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", make], check=True)
    with pytest.raises(ValueError, match=r"evil\.pt can't be read as plain weights.*runs code"):
        read_state_dict(path)
    assert not proof.exists()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.load(str(path))
    assert proof.exists(), "the archive is as dangerous as it is meant to be"


EVIL_MODULE = """
import torch
class Evil(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))
    def forward(self, x):
        return x
    @torch.jit.export
    def __getstate__(self):
        return (self.weight, self.training)
    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        self.weight, self.training = state[0], state[1]
        torch.save(state[0], "{proof}")
"""


class Malicious:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_malicious_pickle_of_the_hub_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden_files: dict[str, str]
) -> None:
    revision, proof = "0" * 40, tmp_path / "it ran"
    folder = tmp_path / "models--owner--name"
    file = folder / "snapshots" / revision / "evil.pth"
    file.parent.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(revision)
    torch.save({"clip_model.x": Malicious(proof)}, file)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    arguments = {**golden_files, "checkpoint": "hf://owner/name/evil.pth"}
    with pytest.raises(ValueError, match="can't be read as plain weights"):
        load_adaclip(**arguments, image_size=golden.IMAGE_SIZE)
    assert not proof.exists()
