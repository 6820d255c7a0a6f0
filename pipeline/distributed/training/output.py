"""What a training run leaves for people: the model card, metrics as CSV, TensorBoard logs."""

from __future__ import annotations

import csv
import io
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.config import TrainConfig
from pipeline.evaluation.table import markdown
from pipeline.provenance import versions
from pipeline.storage import write_object
from pipeline.terminal import duration

from .messages import EpochRecord, Pictures, StepRecord
from .state import TrainingState, selected_epoch

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

TENSORBOARD = "tensorboard"
UPLOAD_INTERVAL_S = 30.0


class EventLog:
    """TensorBoard event files below the output, written while the run goes on.

    Locally they grow in place; elsewhere they are uploaded as a whole from time to time, because
    objects can't be appended to.
    """

    def __init__(self, output: str, first_step: int) -> None:
        self._folder = f"{output}/{TENSORBOARD}"
        self._stack = ExitStack()
        self._local = Path(self._folder.removeprefix("file://"))
        self._remote = not self._folder.startswith("file://")
        if self._remote:
            self._local = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._first_step = first_step
        self._uploaded_at = time.monotonic()

    @cached_property
    def _writer(self) -> SummaryWriter:
        # Not before there is something to log: it loads PyTorch where that is installed.
        from tensorboardX import SummaryWriter

        # TensorBoard drops what a killed run had logged beyond the checkpoint it goes on from.
        writer = SummaryWriter(str(self._local), purge_step=self._first_step, flush_secs=10)
        self._stack.callback(writer.close)
        return writer

    def add(self, record: StepRecord | EpochRecord | Pictures) -> None:
        """Log a step's losses under train/, an epoch's under epoch/, pictures under held_out/."""
        if isinstance(record, Pictures):
            for number, picture in enumerate(record.images):
                self._writer.add_image(
                    f"held_out/{number}", picture, record.step, dataformats="HWC"
                )
            return
        place = "train" if isinstance(record, StepRecord) else "epoch"
        for name, value in record._asdict().items():
            if name not in ("step", "epoch") and value is not None:
                self._writer.add_scalar(f"{place}/{name}", value, record.step)
        if self._remote and time.monotonic() - self._uploaded_at > UPLOAD_INTERVAL_S:
            self._upload()

    def close(self) -> None:
        """Write what is left."""
        if "_writer" in vars(self):
            self._upload()
        self._stack.close()

    def _upload(self) -> None:
        self._writer.flush()
        if not self._remote:
            return
        for path in self._local.iterdir():
            write_object(f"{self._folder}/{path.name}", path.read_bytes())
        self._uploaded_at = time.monotonic()


def write_metrics(output: str, state: TrainingState) -> None:
    """metrics.csv, a row a step, and epochs.csv, a row an epoch."""
    write_object(f"{output}/metrics.csv", _csv(StepRecord._fields, state.steps))
    write_object(f"{output}/epochs.csv", _csv(EpochRecord._fields, state.epochs))


def _csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue().encode()


def model_card(
    config: TrainConfig,
    rows: pa.Table,
    state: TrainingState,
    *,
    model: str,
    num_learnable: int,
    hardware: str,
    remarks: Sequence[str] = (),
) -> str:
    """The model card in Markdown.

    Args:
        rows: ``datasets.auxiliary.AUXILIARY_SCHEMA``.
        model: fingerprint of the weights that were kept.
        hardware: what it was trained on, in words.
        remarks: what is odd about the data, a sentence each.
    """
    kept = selected_epoch(config, state)
    record = state.epochs[kept - 1]
    measured = "no images were held out"
    if record.held_out_loss is not None:
        measured = f"held-out loss {record.held_out_loss:.4f}"
    seconds = sum(step.seconds for step in state.steps)
    return f"""# AdaCLIP weights

`adaclip.pth` (the released checkpoints' format) and `adaclip.safetensors` hold the same
{num_learnable:,} learned weights of AdaCLIP (Cao et al., ECCV 2024, arXiv 2407.15795), without the
backbone. Load either with the settings below:

```bash
python jobs/score_bucket.py --checkpoint {config.output.rstrip("/")}/adaclip.pth \\
    {_model_flags(config)} --input ... --output ...
```

Fingerprint: `{model}`

## Data

{_data_table(rows)}
{_remark_list(remarks)}
Weights may be bound by the licences of the data that they were trained on and of the backbone;
several of the paper's data sets are for non-commercial use only. Check them before you share these
weights.

## Training

Epoch {kept} of {len(state.epochs)} was kept ({measured}); {_reason(config, state)}.
{state.step:,} steps in {duration(seconds)} on {hardware}.

{_epoch_table(state)}

Losses are means over images: focal loss of the score, focal and dice loss of the maps. Only
held-out images of the data above were used for choosing; these figures say nothing about other
data sets. For that, run `jobs/evaluate.py`. Figures are percent: mean and standard deviation over
the categories with good and abnormal held-out images.

{_calibration(record)}

## Settings

{markdown(("setting", "value"), [(k, _shown(v)) for k, v in asdict(config).items()])}

## Versions

{markdown(("package", "version"), list(versions().items()))}
"""


def _reason(config: TrainConfig, state: TrainingState) -> str:
    if config.select == "best" and state.best_epoch is not None:
        return "it has the lowest loss on the held-out images"
    return "the last one counts"


def _data_table(rows: pa.Table) -> str:
    headers = ("data set", "good", "abnormal", "without mask", "held out", "mosaics", "categories")
    lines = []
    for name, part in rows.to_pandas().groupby("dataset", sort=False):
        abnormal = part.label == 1
        unknown = abnormal & part.mask_uri.isna()
        counts = [(~abnormal).sum(), abnormal.sum(), unknown.sum(), part.held_out.sum()]
        rate = f"{part.mosaic_rate.iloc[0]:g}"
        categories = ", ".join(part.category.unique())
        lines.append([str(name), *(f"{count:,}" for count in counts), rate, categories])
    return markdown(headers, lines)


def _remark_list(remarks: Sequence[str]) -> str:
    if not remarks:
        return ""
    lines = "\n".join(f"- {line[0].upper()}{line[1:]}." for line in remarks)
    return f"\nWhat was odd about them before the first step:\n\n{lines}\n"


def _epoch_table(state: TrainingState) -> str:
    losses = [
        "train_loss",
        *(f"held_out_{name}" for name in ("loss", "score_loss", "focal", "dice")),
    ]
    figures = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap")

    def row(record: EpochRecord) -> list[str]:
        known = record._asdict()
        cells = ["" if known[name] is None else f"{known[name]:.4f}" for name in losses]
        for name in figures:
            mean, spread = known[name], known[f"{name}_spread"]
            cells.append("" if mean is None else f"{100 * mean:.1f} ± {100 * spread:.1f}")
        return [str(record.epoch), *cells]

    headers = ["epoch", "train loss", "held-out loss", "score", "focal", "dice"]
    headers += ["image AUROC", "image AP", "pixel AUROC", "pixel AP"]
    return markdown(headers, [row(record) for record in state.epochs])


def _calibration(record: EpochRecord) -> str:
    if record.score_scale is None or record.calibrated_error is None:
        return "Scores are not calibrated: it takes held-out images of both kinds."
    return (
        f"Scores are calibrated: their logit times {record.score_scale:.3g} plus "
        f"{record.score_shift:.3g} is a probability on the held-out images, whose calibration "
        f"error that takes from {record.calibration_error:.3f} to {record.calibrated_error:.3f}. "
        "No order changes. Other products and other shares of abnormal images need their own: "
        "`jobs/calibrate.py`."
    )


def _model_flags(config: TrainConfig) -> str:
    """The flags without which another model would be built."""
    default = TrainConfig(data=config.data, output=config.output)
    names = (
        *("backbone", "backbone_weights", "image_size", "prompt_length", "prompt_depth"),
        *("num_clusters", "use_fusion", "prompt_kind", "prompted_towers"),
    )
    return " ".join(
        _flag(name, getattr(config, name))
        for name in names
        if name in ("backbone", "image_size") or getattr(config, name) != getattr(default, name)
    )


def _flag(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag} {value}"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
