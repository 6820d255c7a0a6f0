"""The job as users run it: submitted to a Ray cluster, on a bucket of a real S3 server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import boto3
import pandas as pd
import pyarrow.parquet as pq
import pytest

from infra.local import RayCluster, ray_cluster
from pipeline import command
from pipeline.benchmark.whole_job import TINY
from pipeline.commands import maintain
from pipeline.results import open_results
from pipeline.storage import read_object
from tests import golden
from tests.bucket import BROKEN, jpeg, put

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster(s3: dict[str, str]) -> Iterator[RayCluster]:
    """A Ray cluster of three CPUs with a job server and token authentication."""
    with ray_cluster(num_cpus=3, environment=s3) as running:
        yield running


def job(files: dict[str, str], bucket: str, *more: str) -> list[str]:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in files.items()]
    flags += [f"--image-size={golden.IMAGE_SIZE}", "--input", f"s3://{bucket}/in"]
    return ["jobs/score_bucket.py", "--output", f"s3://{bucket}/out", *flags, *more]


def submit(
    cluster: RayCluster, arguments: list[str], variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``ray job submit`` from the repository's root, as the README says."""
    ray = ["ray", "job", "submit", "--log-color=false", "--working-dir", "."]
    ray += ["--runtime-env-json", json.dumps({"env_vars": variables or {}}), "--"]
    environment = {**os.environ, **cluster.environment}
    return subprocess.run(
        [*ray, "python", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def actors(cluster: RayCluster) -> list[str]:
    """Classes of all actors that the cluster has started."""
    url = f"{cluster.address}/api/v0/actors"
    headers = {"Authorization": f"Bearer {cluster.environment['RAY_AUTH_TOKEN']}"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        return [actor["class_name"] for actor in json.load(answer)["data"]["result"]["result"]]


def rows(bucket: str) -> pd.DataFrame:
    return pd.read_parquet(f"s3://{bucket}/out/scores")


def reports(bucket: str) -> list[dict[str, object]]:
    client = boto3.client("s3")
    listed = client.list_objects_v2(Bucket=bucket, Prefix="out/runs/")["Contents"]
    keys = sorted(o["Key"] for o in listed if o["Key"].endswith("report.json"))
    return [json.loads(client.get_object(Bucket=bucket, Key=k)["Body"].read()) for k in keys]


def test_a_submitted_job_scores_a_bucket_once(
    cluster: RayCluster, bucket: str, golden_files: dict[str, str]
) -> None:
    put(bucket, {f"in/bolt/{i}.jpg": jpeg(i) for i in range(6)})
    put(bucket, {f"in/{key}": body for key, (body, _) in BROKEN.items()})
    arguments = job(golden_files, bucket, "--max-error-rate=0.5")

    first = submit(cluster, arguments)
    assert first.returncode == 0, first.stdout + first.stderr
    scored = rows(bucket)
    assert len(scored) == 9
    assert set(scored.error.dropna()) == {code for _, code in BROKEN.values()}

    second = submit(cluster, arguments)
    assert second.returncode == 0
    assert "nothing to score, 6 scored before, 1 empty before" in second.stdout
    pd.testing.assert_frame_equal(rows(bucket), scored)

    put(bucket, {"in/bolt/new.jpg": jpeg(50)})
    assert submit(cluster, arguments).returncode == 0
    assert len(rows(bucket)) == 10
    assert rows(bucket).image_id.is_unique
    counts = [report["counts"] for report in reports(bucket)]
    assert [(c["listed"], c["scored"], c["skipped"], c["errors"]) for c in counts] == [  # type: ignore[index]
        (9, 6, 0, 3),
        (9, 0, 9, 0),
        (10, 1, 9, 0),
    ]
    # Beside Ray's own, one of a kind: its readers of Parquet footers would be 32 for each manifest.
    started = Counter(actors(cluster))
    assert started["MapWorker(MapBatches(AnomalyScorer))"] == 2
    assert started.total() < 15


def test_the_same_on_another_s3_server(
    cluster: RayCluster,
    seaweedfs: dict[str, str],
    seaweedfs_bucket: str,
    golden_files: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(seaweedfs_bucket, {f"in/bolt/{i}.jpg": jpeg(i) for i in range(6)})
    small_files = ("--batch-size=1", "--commit-interval-s=0.01")
    ended = submit(cluster, job(golden_files, seaweedfs_bucket, *small_files), seaweedfs)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "warning: the store" not in ended.stdout
    scored = rows(seaweedfs_bucket)
    assert len(scored) == 6
    output = ["--output", f"s3://{seaweedfs_bucket}/out"]
    assert maintain.main(["compact", *output, "--before", "2099-01-01"]) == 0
    assert maintain.main(["vacuum", *output, "--delete", "--grace-hours", "0"]) == 0
    assert "files with 6 rows became 1" in capsys.readouterr().out
    assert set(rows(seaweedfs_bucket).image_id) == set(scored.image_id)
    grid = open_results(output[1]).map(rows(seaweedfs_bucket).iloc[0])
    assert grid.shape == (64, 96)


def test_exit_codes_of_a_submitted_job_tell_the_truth(
    cluster: RayCluster, bucket: str, golden_files: dict[str, str]
) -> None:
    put(bucket, {"in/a/0.jpg": jpeg(0), "in/a/1.jpg": b"broken"})
    failed = submit(cluster, job(golden_files, bucket))
    assert failed.returncode == 1
    assert "images, 50.0%, ended in an error" in failed.stdout
    assert len(rows(bucket)) == 2
    wrong = submit(cluster, job({**golden_files, "checkpoint": "s3://nowhere/x.pth"}, bucket))
    assert wrong.returncode == 1  # ray job submit knows 0 and 1 only
    assert "error: weights 's3://nowhere/x.pth' can't be fetched" in wrong.stdout
    assert "Traceback" not in wrong.stdout


def test_a_submitted_benchmark_measures_the_cluster(cluster: RayCluster, bucket: str) -> None:
    place = f"s3://{bucket}"
    arguments = ["jobs/benchmark.py", "--part=model", "--part=overhead", "--num-steps=1"]
    arguments += [f"--work={place}/work", f"--output={place}/result.json"]
    arguments += [f"--backbone={TINY}", "--backbone-weights=none", "--checkpoint=none"]
    arguments += ["--image-size=56", "--photo-size=64", "--num-images=48", "--num-actors=2"]
    done = submit(cluster, arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "times the floor" in done.stdout
    document = json.loads(read_object(f"{place}/result.json")[0])
    (forward,) = document["results"]["model"]
    assert forward["settings"]["num_threads"] == 1  # a scorer's share: three CPUs, two scorers
    overhead, peer = document["results"]["overhead"]
    assert (peer["way"], peer["images"]) == ("read_images", 48)
    assert (overhead["images"], overhead["num_actors"]) == (48, 2)

    refused = submit(cluster, [*arguments, "--prompt-depth=99"])
    assert refused.returncode == 1
    assert "prompt_depth=99" in refused.stdout
    assert "Traceback" not in refused.stdout


def submitted(cluster: RayCluster, code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "jobs/submit.py", "--address", cluster.address, "--", "python"]
    environment = {**os.environ, **cluster.environment}
    return subprocess.Popen(
        [*command, "-u", "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )


def test_a_submitted_job_ends_with_its_own_exit_code(cluster: RayCluster) -> None:
    with submitted(cluster, "print('sco' + 'red'); raise SystemExit(2)") as failing:
        shown, _ = failing.communicate(timeout=120)
    assert failing.returncode == 2
    assert shown.count("scored") == 1


def test_a_job_that_is_stopped_is_no_success(cluster: RayCluster) -> None:
    """What ``ray job submit`` says of it, a scheduler takes for a complete night."""
    code = "import time; print('star' + 'ted'); time.sleep(600)"  # Ray shows the command itself
    environment = {**os.environ, **cluster.environment}
    with submitted(cluster, code) as stopped:
        assert stopped.stdout is not None
        name = stopped.stdout.readline().split()[1].rstrip(";")
        while "started" not in stopped.stdout.readline():
            pass
        stop = ["ray", "job", "stop", name, "--address", cluster.address]
        subprocess.run(stop, env=environment, check=True, capture_output=True, timeout=120)
        shown = stopped.stdout.read()
    assert "STOPPED" in shown
    assert stopped.returncode == command.INTERRUPTED


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_is_finished_by_the_next(
    cluster: RayCluster, bucket: str, golden_files: dict[str, str], number: signal.Signals
) -> None:
    """The driver is killed after its first commit."""
    num_images = 40
    put(bucket, {f"in/bolt/{i}.jpg": jpeg(i) for i in range(num_images)})
    slow = ["--batch-size=1", "--commit-interval-s=0.01", "--address", cluster.gcs_address]
    environment = {**os.environ, **cluster.environment}
    command = [sys.executable, *job(golden_files, bucket, *slow)]
    client = boto3.client("s3")
    with subprocess.Popen(command, cwd=ROOT, env=environment) as driver:
        while not client.list_objects_v2(Bucket=bucket, Prefix="out/scores/").get("Contents"):
            assert driver.poll() is None
            time.sleep(0.01)
        driver.send_signal(number)
        driver.wait(timeout=60)
    assert driver.returncode == (130 if number == signal.SIGTERM else -number)
    assert 0 < len(rows(bucket)) < num_images
    finished = subprocess.run(command, cwd=ROOT, env=environment, timeout=300)
    assert finished.returncode == 0
    table = rows(bucket)
    assert len(table) == num_images
    assert table.uri.is_unique
    for name, shard in table.groupby("map_file"):
        ids = pq.read_table(f"s3://{bucket}/out/{name}", columns=["image_id"])["image_id"]
        assert list(shard.sort_values("map_row").image_id) == ids.to_pylist()
