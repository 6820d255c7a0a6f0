"""``make demo``: the real jobs on a small bucket, everything on this machine.

Starts an S3 server and a Ray cluster on loopback, fills a bucket with generated photographs of
production lines whose products the small model never saw, good and damaged, and three broken
files. Submits ``jobs/score_bucket.py`` to the cluster three times: without references,
with those of eight known-good parts a line (``jobs/build_references.py``), and with the bucket as
its own reference. Shows what came out, and measures all three against the labels with
``jobs/evaluate.py``. Everything started is stopped, also on Ctrl-C.
"""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import boto3
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from infra.local import RayCluster, ray_cluster, s3_server
from pipeline import logs
from pipeline.evaluation.table import AVERAGE, aligned, percent
from pipeline.images import decode
from pipeline.output import layout
from pipeline.results import Results, open_results
from pipeline.storage import list_objects, read_object
from pipeline.synthetic import CATEGORIES, TEST_CATEGORIES, Sample, generate_line

BUCKET = "factory"
NUM_GOOD = 20  # of each line
NUM_DEFECTIVE = 3  # of each line and defect
NUM_KNOWN_GOOD = 8  # of each line
LINE = 11  # its design; no figure of the documents was chosen on it
NUM_CPUS = 2
GALLERY = Path("demo-output") / "most_anomalous.png"
PAGE = Path("demo-output") / "report.html"
THUMBNAIL = 200
IMAGE_SIZE = 192
SIGMA = 4.0 * IMAGE_SIZE / 518  # pixels; the paper's 4 at 518
MODEL = ["--model", "small"]
BUILD = [
    *("python", "jobs/build_references.py", "--input", f"s3://{BUCKET}/known-good"),
    *("--output", f"s3://{BUCKET}/references", *MODEL),
]
ALONE, KNOWN_GOOD, UNLABELLED = "scores", "scores-known-good", "scores-unlabelled"
SCORED = {
    "AdaCLIP alone": (ALONE, []),
    f"{NUM_KNOWN_GOOD} known-good": (KNOWN_GOOD, ["--references", f"s3://{BUCKET}/references"]),
    "the bucket itself": (UNLABELLED, ["--references", "auto"]),
}


def main() -> int:
    """Run the demo; returns the exit code of the first job that failed, or 0."""
    logs.escape_unencodable()
    try:
        print("starting an S3 server and a Ray cluster on loopback ...", flush=True)
        with s3_server() as s3:
            os.environ.update(s3)
            num_images = fill_bucket()
            print(f"s3://{BUCKET}/parts: {num_images} images and 3 broken files", flush=True)
            with ray_cluster(num_cpus=NUM_CPUS, environment=s3) as cluster:
                return run_jobs(cluster)
    except KeyboardInterrupt:
        print("interrupted; everything that was started is stopped")
        return 130


def run_jobs(cluster: RayCluster) -> int:
    """Score in three ways, show, and measure; returns the first exit code that is not 0."""
    for job in (BUILD, *(score(*each) for each in SCORED.values())):
        if code := submit(cluster, job):
            return code
    show({name: open_results(f"s3://{BUCKET}/{each}") for name, (each, _) in SCORED.items()})
    keep_page(f"s3://{BUCKET}/{KNOWN_GOOD}")
    for output, _ in SCORED.values():
        if code := submit(cluster, evaluate(output)):
            return code
    print(f"\n{num_labels()} labelled images, on average over the lines:\n{figures()}")
    return 0


def score(output: str, flags: list[str]) -> list[str]:
    """The scoring job of an output."""
    where = ("--input", f"s3://{BUCKET}/parts", "--output", f"s3://{BUCKET}/{output}")
    return ["python", "jobs/score_bucket.py", *where, *MODEL, "--max-error-rate", "0.1", *flags]


def evaluate(output: str) -> list[str]:
    """The evaluation of an output."""
    return [
        *("python", "jobs/evaluate.py", "--data", f"unseen=s3://{BUCKET}/labels.csv"),
        *("--scores", f"s3://{BUCKET}/{output}", "--output", f"s3://{BUCKET}/evaluation/{output}"),
        *("--sigma", f"{SIGMA:.2f}", "--no-plots"),
    ]


def fill_bucket() -> int:
    """Upload photographs, their labels and three broken files; returns how many photographs."""
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    labels = []
    for category in TEST_CATEGORIES:
        kinds = {"good": NUM_GOOD, **dict.fromkeys(CATEGORIES[category].defects, NUM_DEFECTIVE)}
        parts = [(defect, i) for defect, count in kinds.items() for i in range(count)]
        for number, (defect, i) in enumerate(parts):
            sample = generate_line(category, LINE, number, defect)
            labels.append(upload(client, sample, category, f"{category}/{defect}/{i:03d}"))
        for number in range(len(parts), len(parts) + NUM_KNOWN_GOOD):
            known = generate_line(category, LINE, number).jpeg()
            key = f"known-good/{category}/{number:03d}.jpg"
            client.put_object(Bucket=BUCKET, Key=key, Body=known)
    table = pd.DataFrame(labels).to_csv(index=False)
    client.put_object(Bucket=BUCKET, Key="labels.csv", Body=table.encode())
    whole = generate_line("capsule", LINE, 999).jpeg()
    broken = {"empty.jpg": b"", "page.jpg": b"<html>", "cut short.jpg": whole[: len(whole) // 2]}
    for name, body in broken.items():
        client.put_object(Bucket=BUCKET, Key=f"parts/capsule/broken/{name}", Body=body)
    return len(labels)


def upload(client: object, sample: Sample, category: str, name: str) -> dict[str, object]:
    """Upload a photograph and its mask; returns its row of the labels."""
    put = client.put_object  # type: ignore[attr-defined]
    put(Bucket=BUCKET, Key=f"parts/{name}.jpg", Body=sample.jpeg())
    row = {"uri": f"parts/{name}.jpg", "category": category, "label": 0}
    if sample.defect == "good":
        return row
    put(Bucket=BUCKET, Key=f"masks/{name}.png", Body=sample.mask_png())
    return row | {"label": 1, "mask_uri": f"masks/{name}.png"}


def submit(cluster: RayCluster, job: list[str]) -> int:
    """Submit a job as a scheduler would, which learns its exit code, and follow its output."""
    command = ["python", "jobs/submit.py", "--working-dir", ".", "--", *job]
    print(f"\n$ {shlex.join(command)}\n", flush=True)
    command[0] = sys.executable
    return subprocess.run(command, env={**os.environ, **cluster.environment}).returncode


def show(outputs: dict[str, Results]) -> None:
    """Print the most anomalous photographs and draw them with their maps and masks."""
    alone, known_good, _ = outputs.values()
    frame = known_good.scores()
    frame["image"] = frame.uri.str.removeprefix(f"s3://{BUCKET}/parts/")
    columns = ["image", "score", "zero_shot_score", "reference_score", "map_max", "error"]
    with pd.option_context("display.width", 120, "display.max_colwidth", 60):
        print("\nmost anomalous, beside known-good parts:")
        print(frame[columns].head(8).round(3).to_string(index=False, na_rep=""))
        print("\nnot scored:")
        failed = frame[frame.error.notna()]
        print(failed[["image", "error", "error_message"]].to_string(index=False))
    damaged = frame[frame.score.notna() & ~frame.image.str.contains("/good/")]
    order = damaged.groupby("category", observed=True).cumcount()
    chosen = damaged[order.isin([0, 8])].sort_values("category")  # the highest, and a lower one
    GALLERY.parent.mkdir(exist_ok=True)
    gallery(alone, known_good, chosen).save(GALLERY)
    print(f"\ninput, map without and with references, and label: {GALLERY}")


def keep_page(output: str) -> None:
    """Copy the run's report.html out of the bucket, which ends with the demo."""
    infos = [info for page in list_objects(layout.runs_of(output)) for info in page]
    [uri] = [info.uri for info in infos if info.uri.endswith(f"/{layout.PAGE}")]
    PAGE.write_bytes(read_object(uri)[0])
    print(f"\nthe run's page: {uri}\na copy to open in a browser: {PAGE.resolve().as_uri()}")


def gallery(alone: Results, known_good: Results, frame: pd.DataFrame) -> Image.Image:
    """A column for each row of the frame: photograph, maps without and with references, mask."""
    sheet = Image.new("RGB", (len(frame) * THUMBNAIL, 4 * THUMBNAIL + 20), "white")
    draw, side = ImageDraw.Draw(sheet), THUMBNAIL - 4
    without = alone.scores().set_index("uri", drop=False)
    for i, (_, row) in enumerate(frame.iterrows()):
        mask_uri = row["uri"].replace("/parts/", "/masks/").replace(".jpg", ".png")
        pictures = [
            decode(read_object(row["uri"])[0]),
            _gray(alone.map(without.loc[row["uri"]], side)),
            _gray(known_good.map(row, side)),
            Image.open(io.BytesIO(read_object(mask_uri)[0])),
        ]
        told = (
            f"{row['image'][: -len('.jpg')][:22]} {row['zero_shot_score']:.2f} {row['score']:.2f}"
        )
        draw.text((i * THUMBNAIL + 2, 4), told, "black")
        for number, picture in enumerate(pictures):
            sheet.paste(picture.resize((side, side)), (i * THUMBNAIL, 20 + number * THUMBNAIL))
    return sheet


def figures() -> str:
    """The averages of the three evaluations, for a terminal."""
    names = ("image_auroc", "pixel_auroc", "pixel_ap", "pixel_aupro")
    lines = []
    for told, (output, _) in SCORED.items():
        data, _ = read_object(f"s3://{BUCKET}/evaluation/{output}/metrics.parquet")
        table = pd.read_parquet(io.BytesIO(data))
        row = table[table.category == AVERAGE].iloc[0]
        lines.append([told, *(percent(row[name]) for name in names)])
    return aligned(["references", "I-AUROC", "P-AUROC", "P-AP", "AUPRO"], lines)


def num_labels() -> int:
    """Labelled photographs."""
    return len(pd.read_csv(io.BytesIO(read_object(f"s3://{BUCKET}/labels.csv")[0])))


def _gray(anomaly_map: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray((255 * anomaly_map).astype(np.uint8))


if __name__ == "__main__":
    sys.exit(main())
