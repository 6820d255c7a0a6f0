"""``make demo``: the real scoring job on a small bucket, everything on this machine.

Starts an S3 server and a Ray cluster on loopback, fills a bucket with generated product images
and three broken files, submits ``jobs/score_bucket.py`` with ``ray job submit``, and shows what
came out. Everything started is stopped, also on Ctrl-C.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import boto3
import pandas as pd
from PIL import Image, ImageDraw

from infra.local import RayCluster, ray_cluster, s3_server
from pipeline.datasets.synthetic import CATEGORIES, DEFECTS, generate
from pipeline.results import Results, open_results

BUCKET = "factory"
NUM_GOOD = 5
NUM_DEFECTIVE = 2  # of each defect
NUM_CPUS = 2
GALLERY = Path("demo-output") / "most_anomalous.png"
NUM_SHOWN = 6
THUMBNAIL = 260
JOB = [
    *("python", "jobs/score_bucket.py"),
    *("--input", f"s3://{BUCKET}/line-1", "--output", f"s3://{BUCKET}/scores"),
    *("--backbone", "pipeline/models/tiny_clip.json", "--image-size", "168"),
    *("--backbone-weights", "none", "--checkpoint", "none"),
    *("--max-error-rate", "0.2"),
]


def main() -> int:
    """Run the demo; returns the job's exit code."""
    try:
        print("starting an S3 server and a Ray cluster on loopback ...", flush=True)
        with s3_server() as s3:
            os.environ.update(s3)
            num_images = fill_bucket()
            print(f"s3://{BUCKET}/line-1: {num_images} images and 3 broken files", flush=True)
            with ray_cluster(num_cpus=NUM_CPUS, environment=s3) as cluster:
                code = submit(cluster)
            if code == 0:
                show(open_results(f"s3://{BUCKET}/scores"))
            return code
    except KeyboardInterrupt:
        print("interrupted; everything that was started is stopped")
        return 130


def fill_bucket() -> int:
    """Upload generated images and three broken files; returns the number of images."""
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    count = 0
    for category in CATEGORIES:
        for defect in ("good", *DEFECTS):
            for seed in range(NUM_GOOD if defect == "good" else NUM_DEFECTIVE):
                key = f"line-1/{category}/{defect}/{seed:03d}.jpg"
                body = generate(category, defect, seed).jpeg()
                client.put_object(Bucket=BUCKET, Key=key, Body=body)
                count += 1
    whole = generate("metal plate", "good", 99).jpeg()
    broken = {"empty.jpg": b"", "page.jpg": b"<html>", "cut short.jpg": whole[: len(whole) // 2]}
    for name, body in broken.items():
        client.put_object(Bucket=BUCKET, Key=f"line-1/metal plate/broken/{name}", Body=body)
    return count


def submit(cluster: RayCluster) -> int:
    """Submit the scoring job as a user would, and follow its output."""
    command = ["ray", "job", "submit", "--working-dir", ".", "--", *JOB]
    print(f"\n$ {shlex.join(command)}\n", flush=True)
    return subprocess.run(command, env={**os.environ, **cluster.environment}).returncode


def show(results: Results) -> None:
    """Print the most anomalous images and draw them with their maps."""
    frame = results.scores()
    frame["image"] = frame.uri.str.removeprefix(f"s3://{BUCKET}/line-1/")
    columns = ["image", "score", "map_max", "anomalous_area", "error"]
    with pd.option_context("display.width", 120, "display.max_colwidth", 60):
        print("\nmost anomalous:")
        print(frame[columns].head(NUM_SHOWN).round(3).to_string(index=False, na_rep=""))
        print("\nnot scored:")
        failed = frame[frame.error.notna()]
        print(failed[["image", "error", "error_message"]].to_string(index=False))
    GALLERY.parent.mkdir(exist_ok=True)
    gallery(results, frame.head(NUM_SHOWN)).save(GALLERY)
    print(f"\noverlays of the most anomalous: {GALLERY}")
    print(
        "The demo's model is UNTRAINED: its weights are random, so scores and maps show that the\n"
        'pipeline works, not where defects are. For real scores, see README.md, "One GPU".'
    )


def gallery(results: Results, frame: pd.DataFrame) -> Image.Image:
    """Overlays side by side, each with its key and score above it."""
    columns = 3
    rows = -(-len(frame) // columns)
    sheet = Image.new("RGB", (columns * THUMBNAIL, rows * (THUMBNAIL + 20)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (_, row) in enumerate(frame.iterrows()):
        x, y = i % columns * THUMBNAIL, i // columns * (THUMBNAIL + 20)
        draw.text((x + 4, y + 4), f"{row['image']}  {row['score']:.3f}", fill="black")
        sheet.paste(results.overlay(row, size=THUMBNAIL - 4), (x, y + 20))
    return sheet


if __name__ == "__main__":
    sys.exit(main())
