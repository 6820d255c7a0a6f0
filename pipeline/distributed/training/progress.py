"""The lines that a training run says."""

from __future__ import annotations

from collections import deque

from pipeline.config import TrainConfig
from pipeline.terminal import duration

from .messages import EpochRecord, StepRecord

RATE_STEPS = 50  # over which images/s and the time left are averaged


class Progress:
    """How far a run is, from the records that its workers send."""

    def __init__(self, config: TrainConfig, num_images: int, images_per_step: int) -> None:
        self._config, self._num_images = config, num_images
        self._images_per_step = images_per_step
        self.steps_per_epoch = -(-num_images // images_per_step)
        self.num_steps = self.steps_per_epoch * config.epochs
        """Of the whole run."""
        self._recent: deque[StepRecord] = deque(maxlen=RATE_STEPS)

    def opening(self, first_step: int, num_held_out: int) -> str:
        """What is about to be done."""
        line = (
            f"training on {self._num_images:,} images, {num_held_out:,} held out: "
            f"{self._config.epochs} epochs of {self.steps_per_epoch:,} steps of "
            f"{self._images_per_step} images"
        )
        return line if not first_step else f"{line}; going on after step {first_step:,}"

    def add(self, record: StepRecord) -> None:
        """Take a step into account."""
        self._recent.append(record)

    @property
    def has_begun(self) -> bool:
        """Whether a step was heard of."""
        return bool(self._recent)

    @staticmethod
    def begun_line(seconds: float) -> str:
        """The first step that was heard of, so long after the workers were started."""
        return f"the workers are training, {duration(seconds)} after their start"

    def line(self) -> str:
        """Where the run is after the last step that was heard of."""
        last = self._recent[-1]
        seconds = sum(record.seconds for record in self._recent)
        rate = sum(record.images for record in self._recent) / seconds
        left = (self.num_steps - last.step) * seconds / len(self._recent)
        return (
            f"epoch {last.epoch}/{self._config.epochs} · step {last.step:,} / {self.num_steps:,} · "
            f"loss {last.loss:.4f} · gradient {last.grad_norm:.3g} · {rate:.3g} images/s · "
            f"{duration(left)} left"
        )

    @staticmethod
    def epoch_line(record: EpochRecord) -> str:
        """The result of an epoch."""
        line = f"epoch {record.epoch} done: training loss {record.train_loss:.4f}"
        if record.held_out_loss is None:
            return line
        line = f"{line}, held-out loss {record.held_out_loss:.4f}"
        for name, mean, spread in (
            ("image AUROC", record.image_auroc, record.image_auroc_spread),
            ("pixel AP", record.pixel_ap, record.pixel_ap_spread),
        ):
            if mean is not None and spread is not None:
                line += f", {name} {100 * mean:.1f} ± {100 * spread:.1f}"
        return line

    def stopped_line(self, epochs: int) -> str:
        """Why a run ended before its last epoch."""
        return (
            f"stopped after epoch {epochs} of {self._config.epochs}: none of the last "
            f"{self._config.patience} lowered the held-out loss (--patience)"
        )

    @staticmethod
    def lost_masks_line(reasons: list[str]) -> str:
        """Images whose masks say nothing at this size."""
        return (
            f"{len(reasons):,} images are trained on as if they had no mask (lost_masks.txt), "
            f"such as {reasons[0]}"
        )
