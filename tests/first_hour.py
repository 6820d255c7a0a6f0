"""The first hour of a new user, replayed: ``python -m tests.first_hour``, some minutes.

Runs every command of ``README.md``, ``docs/getting-started.md`` and the pilot of
``docs/choosing.md`` on generated parts and a local S3 server, with the packaged model in place of
the released one, and then the commonest mistakes. Prints exit codes and seconds; ends with 1 where
a code or what was printed is not what it should be.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import yaml
from PIL import Image

from infra.local import s3_server
from pipeline.synthetic import generate_line

ROOT = Path(__file__).parents[1]
ADACLIP = Path(sys.executable).parent / "adaclip"
# Pages, and the heading below which they are looked at.
PAGES = {
    "README.md": "# adaclip-pipeline",
    "docs/getting-started.md": "# Getting started",
    "docs/choosing.md": "## A pilot in five commands",
}
PARTS = {"metal nut": "gear", "cable": "connector"}  # class names, and what is drawn for them
SIZE = 192  # pixels
# What a command prints when it did its work.
EXPECTED = {
    "demo": "most_anomalous.png",
    "doctor": "speed    yes",
    "score": "next: open the page",
    "references": "references: s3://",
    "calibrate": "thresholds: s3://",
    "nightly": "parts",
    "--help": "usage: adaclip COMMAND",
}
SMALL = "--model small"
MISTAKES = {
    "--input nowhere --output new --model small": "no such file or folder",
    "--input s3://bucket/typo --output s3://bucket/new --model small": "there is no object below",
    "--input photos --output s3://no-such-bucket/new --model small": "no-such-bucket",
    "--input photos --output new": "are not in",
    "--input photos --output new --backbone ViT-B-16 --checkpoint CHECKPOINT": "another backbone",
    "--input photos --output new --model smal": "known are small",
    "--input photos --output new --model small --image-size 190": "not a multiple of 8",
    "--input photos --outptu new --model small": "--outptu",
    "--input photos/cable/0.jpg photos/cable/1.jpg --output new": "shell has put them",
    "--output new --model small": "--input",
}


def commands() -> Iterator[str]:
    """Of the pages' shell blocks, with the packaged model."""
    for page, heading in PAGES.items():
        text = (ROOT / page).read_text().split(f"{heading}\n", 1)[1]
        text = text.split("\n## ", 1)[0] if heading.startswith("##") else text
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                command = line.split("    #")[0].strip()
                if command.startswith("adaclip "):
                    command = re.sub(r"--model \S+", SMALL, command).replace("--precision bf16", "")
                    yield " ".join(command.split())


def photograph(part: str, number: int, *, damaged: bool) -> bytes:
    """A JPEG of one part of a production line."""
    data = io.BytesIO()
    defect = "scratch" if damaged else "good"
    sample = generate_line(PARTS[part], 0, number, defect, size=SIZE)
    Image.fromarray(sample.image).save(data, "JPEG", quality=92)
    return data.getvalue()


def fill(folder: Path) -> None:
    """Photographs here and in the bucket, and a ``scans.yaml``."""
    client = boto3.client("s3")
    for bucket in ("bucket", "models"):
        client.create_bucket(Bucket=bucket)
    numbers = iter(range(10_000))
    for part in PARTS:
        local = folder / "photos" / part
        local.mkdir(parents=True)
        for i in range(6):
            (local / f"{i}.jpg").write_bytes(photograph(part, next(numbers), damaged=i == 0))
        for prefix, count, damaged in (
            ("pilot/references", 8, False),
            ("pilot/good", 60, False),
            ("pilot/bad", 10, True),
            ("known-good", 8, False),
            ("photos", 12, False),
            ("prefix", 12, False),
        ):
            for i in range(count):
                body = photograph(part, next(numbers), damaged=damaged)
                client.put_object(Bucket="bucket", Key=f"{prefix}/{part}/{i}.jpg", Body=body)
    source = {"name": "parts", "input": ["s3://bucket/photos"], "output": "s3://bucket/nightly"}
    scans = {"summary": "s3://bucket/summary", "sources": [source | {"model": "small"}]}
    (folder / "scans.yaml").write_text(yaml.safe_dump(scans))


def run(command: str, folder: Path, *, code: int, words: str) -> bool:
    """Run it and tell; whether it did what it should."""
    started = time.monotonic()
    arguments = shlex.split(command)[1:]
    done = subprocess.run([ADACLIP, *arguments], cwd=folder, capture_output=True, text=True)
    seconds = time.monotonic() - started
    printed = done.stdout + done.stderr
    right = done.returncode == code and words in printed
    print(
        f"{'' if right else 'WRONG '}{done.returncode:>3} {seconds:6.1f} s  {command}", flush=True
    )
    if not right:
        print(printed)
    return right


def main() -> int:
    """Replay; returns 1 if anything was not as it should be."""
    with tempfile.TemporaryDirectory() as name, s3_server() as variables:
        folder = Path(name)
        os.environ.update(variables, HF_HOME=str(folder / "hub"), HF_HUB_OFFLINE="1")
        fill(folder)
        right = []
        for command in commands():
            words = EXPECTED.get(command.split()[1], "")
            right.append(run(command, folder, code=0, words=words))
        checkpoint = str(ROOT / "pipeline/models/small/adaclip.safetensors")
        before = sorted(folder.iterdir())
        for flags, words in MISTAKES.items():
            command = f"adaclip score {flags.replace('CHECKPOINT', checkpoint)}"
            right.append(run(command, folder, code=2, words=words))
        if sorted(folder.iterdir()) != before:
            print(f"WRONG: a mistake left {set(folder.iterdir()) - {*before}}")
            right.append(False)
    print(f"{sum(right)} of {len(right)} as they should be")
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
