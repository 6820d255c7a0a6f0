"""``make demo``: the real jobs on a small bucket, everything on this machine.

Starts an S3 server and a Ray cluster on loopback, fills a bucket with generated pictures of
products that the small model never saw, good and damaged, and three broken files. Submits
``jobs/score_bucket.py`` with ``ray job submit``, shows what came out, and measures it against the
labels with ``jobs/evaluate.py``. Everything started is stopped, also on Ctrl-C.
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
from PIL import Image, ImageDraw

from infra.local import RayCluster, ray_cluster, s3_server
from pipeline.datasets.synthetic import CATEGORIES, TEST_CATEGORIES, generate
from pipeline.images import decode
from pipeline.results import Results, open_results
from pipeline.storage import list_objects, read_object

BUCKET = "factory"
NUM_GOOD = 14  # of each category
NUM_DEFECTIVE = 3  # of each category and defect
SEED = 2_000_000  # far from the seeds that trained the model
NUM_CPUS = 2
GALLERY = Path("demo-output") / "most_anomalous.png"
PAGE = Path("demo-output") / "report.html"
THUMBNAIL = 200
SMALL = "pipeline/models/small"
IMAGE_SIZE = 192
SIGMA = 4.0 * IMAGE_SIZE / 518  # pixels; the paper's 4 at 518
MODEL = [
    *("--backbone", f"{SMALL}/clip.json", "--backbone-weights", f"{SMALL}/clip.safetensors"),
    *("--image-size", str(IMAGE_SIZE)),
]
SCORE = [
    *("python", "jobs/score_bucket.py"),
    *("--input", f"s3://{BUCKET}/line-1", "--output", f"s3://{BUCKET}/scores"),
    *MODEL,
    *("--checkpoint", f"{SMALL}/adaclip.safetensors", "--max-error-rate", "0.1"),
]
EVALUATE = [
    *("python", "jobs/evaluate.py"),
    *("--data", f"unseen=s3://{BUCKET}/labels.csv", "--scores", f"s3://{BUCKET}/scores"),
    *("--output", f"s3://{BUCKET}/evaluation", *MODEL, "--sigma", f"{SIGMA:.2f}"),
]


def main() -> int:
    """Run the demo; returns the exit code of the first job that failed, or 0."""
    try:
        print("starting an S3 server and a Ray cluster on loopback ...", flush=True)
        with s3_server() as s3:
            os.environ.update(s3)
            num_images = fill_bucket()
            print(f"s3://{BUCKET}/line-1: {num_images} images and 3 broken files", flush=True)
            with ray_cluster(num_cpus=NUM_CPUS, environment=s3) as cluster:
                if code := submit(cluster, SCORE):
                    return code
                show(open_results(f"s3://{BUCKET}/scores"))
                keep_page(f"s3://{BUCKET}/scores")
                return submit(cluster, EVALUATE)
    except KeyboardInterrupt:
        print("interrupted; everything that was started is stopped")
        return 130


def fill_bucket() -> int:
    """Upload pictures, their labels and three broken files; returns the number of pictures."""
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    labels = []
    for category in TEST_CATEGORIES:
        kinds = {"good": NUM_GOOD, **dict.fromkeys(CATEGORIES[category].defects, NUM_DEFECTIVE)}
        pictures = [(defect, i) for defect, count in kinds.items() for i in range(count)]
        for number, (defect, i) in enumerate(pictures):
            sample = generate(category, defect, SEED + number)
            name = f"{category}/{defect}/{i:03d}"
            client.put_object(Bucket=BUCKET, Key=f"line-1/{name}.jpg", Body=sample.jpeg())
            labels.append({"uri": f"line-1/{name}.jpg", "category": category, "label": 0})
            if defect != "good":
                mask = f"masks/{name}.png"
                client.put_object(Bucket=BUCKET, Key=mask, Body=sample.mask_png())
                labels[-1] |= {"label": 1, "mask_uri": mask}
    table = pd.DataFrame(labels).to_csv(index=False)
    client.put_object(Bucket=BUCKET, Key="labels.csv", Body=table.encode())
    whole = generate("capsule", "good", 99).jpeg()
    broken = {"empty.jpg": b"", "page.jpg": b"<html>", "cut short.jpg": whole[: len(whole) // 2]}
    for name, body in broken.items():
        client.put_object(Bucket=BUCKET, Key=f"line-1/capsule/broken/{name}", Body=body)
    return len(labels)


def submit(cluster: RayCluster, job: list[str]) -> int:
    """Submit a job as a user would, and follow its output."""
    command = ["ray", "job", "submit", "--working-dir", ".", "--", *job]
    print(f"\n$ {shlex.join(command)}\n", flush=True)
    return subprocess.run(command, env={**os.environ, **cluster.environment}).returncode


def show(results: Results) -> None:
    """Print the most anomalous pictures and draw them with their maps and masks."""
    frame = results.scores()
    frame["image"] = frame.uri.str.removeprefix(f"s3://{BUCKET}/line-1/")
    columns = ["image", "score", "map_max", "anomalous_area", "error"]
    with pd.option_context("display.width", 120, "display.max_colwidth", 60):
        print("\nmost anomalous:")
        print(frame[columns].head(8).round(3).to_string(index=False, na_rep=""))
        print("\nnot scored:")
        failed = frame[frame.error.notna()]
        print(failed[["image", "error", "error_message"]].to_string(index=False))
    damaged = frame[frame.score.notna() & ~frame.image.str.contains("/good/")]
    GALLERY.parent.mkdir(exist_ok=True)
    gallery(results, damaged.groupby("category", observed=True).head(2)).save(GALLERY)
    print(f"\ninput, map and label of the two highest damaged of each category: {GALLERY}")


def keep_page(output: str) -> None:
    """Copy the run's report.html out of the bucket, which ends with the demo."""
    infos = [info for page in list_objects(f"{output}/runs") for info in page]
    [uri] = [info.uri for info in infos if info.uri.endswith("/report.html")]
    PAGE.write_bytes(read_object(uri)[0])
    print(f"\nthe run's page: {uri}\na copy to open in a browser: {PAGE.resolve().as_uri()}")


def gallery(results: Results, frame: pd.DataFrame) -> Image.Image:
    """A column for each row of the frame: the picture, its map over it, its labelled mask."""
    sheet = Image.new("RGB", (len(frame) * THUMBNAIL, 3 * THUMBNAIL + 20), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (_, row) in enumerate(frame.iterrows()):
        x, side = i * THUMBNAIL, (THUMBNAIL - 4, THUMBNAIL - 4)
        mask_uri = row["uri"].replace("/line-1/", "/masks/").replace(".jpg", ".png")
        label = Image.open(io.BytesIO(read_object(mask_uri)[0]))
        values = (255 * results.map(row, THUMBNAIL - 4)).astype(np.uint8)
        draw.text((x + 2, 4), f"{row['image'][: -len('.jpg')][:24]} {row['score']:.2f}", "black")
        sheet.paste(decode(read_object(row["uri"])[0]).resize(side), (x, 20))
        sheet.paste(Image.fromarray(values), (x, 20 + THUMBNAIL))
        sheet.paste(label.resize(side), (x, 20 + 2 * THUMBNAIL))
    return sheet


if __name__ == "__main__":
    sys.exit(main())
