"""The model on one device, as scorers and builders of references call it."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config import ModelSpec
from pipeline.images.normalising import normalise_
from pipeline.models import Prediction
from pipeline.references import NONE_NEAR, Judge, Judgement, normalise

from .loading import load_model
from .references.judges import Judges

# Pixels are views of Arrow's buffers, and nothing here writes to them.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")


class Scored(NamedTuple):
    """F of the B images of a batch: those for which the device had the memory."""

    score: NDArray[np.float32]
    """[F] in [0, 1], the one to sort by."""
    score_logit: NDArray[np.float32]
    """[F]"""
    zero_shot_score: NDArray[np.float32]
    """[F] in [0, 1], without references."""
    reference_score: NDArray[np.float32]
    """[F] in [0, 1], by references alone; NaN without."""
    nearest_reference: list[str | None]
    """F URIs of the most similar reference images; None without."""
    grid: NDArray[np.float32]
    """[F, h, w] logits of the maps."""
    embedding: NDArray[np.float32] | None
    """[F, E] class embeddings of the frozen pass, unit length; None unless asked for."""
    fits: NDArray[np.bool_]
    """[B] which they are."""


class Batch(NamedTuple):
    """A batch on its way to the device."""

    pixels: Tensor
    """uint8 [B, S, S, 3]"""
    categories: Sequence[str]
    images: Sequence[tuple[str, str]]
    """URIs and ETags."""
    judges: Mapping[str, Judge]
    """Of the categories that have references."""

    def part(self, rows: slice) -> Batch:
        """Some of its images."""
        return Batch(self.pixels[rows], self.categories[rows], self.images[rows], self.judges)


class Computed(NamedTuple):
    """A batch on its way back."""

    values: list[Tensor]
    """Of the images that fit; on the host, once they have arrived."""
    fits: list[bool]
    """Of all images."""
    arrived: torch.cuda.Event | None

    def wait(self) -> None:
        """Until they have arrived."""
        if self.arrived is not None:
            self.arrived.synchronize()


class Predictor:
    """One copy of the model.

    Several threads may call ``score``: one batch is on the device while others are copied there, or
    made into rows. A single thread gives the device its work, so that batches follow each other
    without a gap.
    """

    def __init__(
        self,
        model: ModelSpec,
        *,
        fingerprint: str,
        gpus: float,
        num_threads: int,
        judges: Judges | None = None,
        embeddings: bool = False,
    ) -> None:
        """Load the model; other arguments and errors are those of ``AnomalyScorer``.

        Args:
            judges: the references of some categories.
            embeddings: give the class embedding of each image.
        """
        if not gpus:
            torch.set_num_threads(max(1, min(num_threads, len(os.sched_getaffinity(0)))))
        elif gpus < 1:  # so that one actor's cache can't take the memory of its neighbours
            torch.cuda.set_per_process_memory_fraction(gpus)
        # PyTorch's default lets convolutions round fp32 to TF32, which the patch embedding feels.
        torch.backends.cudnn.allow_tf32 = False
        device = torch.device("cuda" if gpus else "cpu")
        self.model = load_model(model, device)
        if (found := self.model.fingerprint()) != fingerprint:
            raise ValueError(
                f"the weights changed since the run began: {found} instead of {fingerprint}"
            )
        self._embeddings = embeddings
        self._set_up(device, self.model.settings.image_size, judges)

    def _set_up(self, device: torch.device, image_size: int, judges: Judges | None) -> None:
        """All but the model."""
        self.device = device
        self.image_size = image_size
        """Side of the square images that the model takes, in pixels."""
        self._judges = judges
        self._looking_up = threading.Lock()
        self._worker = ThreadPoolExecutor(1)
        self._copies = torch.cuda.Stream() if device.type == "cuda" else None

    def score(
        self, pixels: NDArray[np.uint8], categories: list[str], images: Sequence[tuple[str, str]]
    ) -> Scored | None:
        """Score each image; None if the device has no memory for even one.

        Args:
            pixels: [B, S, S, 3], S = ``image_size``.
            categories: B class names.
            images: B URIs with their ETags, by which references that are among them are known.

        Raises:
            ReferencesError: a reference set can't be used.
        """
        judges: dict[str, Judge] = {}
        if self._judges is not None:
            with self._looking_up:
                judges = self._judges.of(categories, self.device)
        batch = Batch(self._sent(pixels), categories, images, judges)
        computed = self._worker.submit(self._in_parts, batch).result()
        computed.wait()
        if not computed.values:
            return None
        score, logit, zero_shot, reference, nearest, grid, *embedding = (
            each.numpy() for each in computed.values
        )
        names = [name for name, fits in zip(categories, computed.fits, strict=True) if fits]
        return Scored(
            score=score,
            score_logit=logit,
            zero_shot_score=zero_shot,
            reference_score=reference,
            nearest_reference=[
                judges[name].uri(position) if name in judges else None
                for name, position in zip(names, nearest.tolist(), strict=True)
            ],
            grid=grid,
            embedding=embedding[0] if embedding else None,
            fits=np.array(computed.fits),
        )

    def upload(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Pixels [B, S, S, 3] → images [B, 3, S, S] on the device, normalised."""
        return self._images(self._sent(pixels))

    def _sent(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Pixels on their way to the device; on the host where that has no memory for them now."""
        host = torch.from_numpy(pixels)
        if self._copies is None:
            return host
        try:
            # Pinned memory, kept by PyTorch for the next batch, is copied while the GPU computes.
            with torch.cuda.stream(self._copies):
                return host.pin_memory().to(self.device, non_blocking=True)
        except torch.OutOfMemoryError:
            return host

    def _images(self, sent: Tensor) -> Tensor:
        """Of pixels, once they have arrived."""
        if self._copies is not None and sent.is_cuda:
            stream = torch.cuda.current_stream()
            stream.wait_stream(self._copies)
            sent.record_stream(stream)
        pixels = sent.to(self.device).permute(0, 3, 1, 2).float().div_(255.0)
        return normalise_(pixels, *self.model.pixels)

    def _in_parts(self, batch: Batch) -> Computed:
        """A batch, halved until the device has the memory for it."""
        try:
            return self._computed(batch)
        except torch.OutOfMemoryError:
            pass  # halved outside the handler, whose traceback holds the failed attempt's tensors
        torch.cuda.empty_cache()
        count = len(batch.pixels)
        if count == 1:
            return Computed([], [False], None)
        halves = (slice(count // 2), slice(count // 2, None))
        parts = [self._in_parts(batch.part(half)) for half in halves]
        for part in parts:
            part.wait()
        there = [part.values for part in parts if part.values]
        values = [torch.cat(each) for each in zip(*there, strict=True)]
        return Computed(values, [fits for part in parts for fits in part.fits], None)

    @torch.inference_mode()
    def _computed(self, batch: Batch) -> Computed:
        """A batch; on a GPU, once it gets there."""
        keep = bool(batch.judges) or self._embeddings
        images, categories = self._images(batch.pixels), batch.categories
        prediction = self.model.predict(images, categories, keep_frozen=keep)
        score, logit = prediction.score.clone(), prediction.score_logit.clone()
        grid, reference = prediction.logit_grid.clone(), torch.full_like(score, torch.nan)
        nearest = torch.full(score.shape, NONE_NEAR, device=score.device)
        for category, judge in batch.judges.items():
            chosen = [i for i, name in enumerate(categories) if name == category]
            judged = judge_batch(judge, prediction, chosen, [batch.images[i] for i in chosen])
            grid[chosen] = judged.logit_grid.view_as(grid[chosen])
            logit[chosen], score[chosen] = judged.score_logit, judged.score_logit.sigmoid()
            reference[chosen] = judged.reference_logit.sigmoid()
            nearest[chosen] = judged.nearest
        values = [score, logit, prediction.score, reference, nearest, grid]
        if self._embeddings and prediction.frozen is not None:
            values.append(F.normalize(prediction.frozen.embedding.float(), dim=-1))
        values = [each.to("cpu", non_blocking=True) for each in values]
        arrived = None
        if self.device.type == "cuda":
            arrived = torch.cuda.Event(blocking=True)
            arrived.record()
        return Computed(values, [True] * len(images), arrived)


def judge_batch(
    judge: Judge, prediction: Prediction, chosen: Sequence[int], images: Sequence[tuple[str, str]]
) -> Judgement:
    """Judge some images of a batch, all of one category.

    Args:
        prediction: of the batch, with ``keep_frozen``.
        chosen: positions of the images.
        images: their URIs and ETags.
    """
    assert prediction.frozen is not None
    return judge.judge(
        images,
        normalise([each[chosen] for each in prediction.frozen.tokens]),
        F.normalize(prediction.frozen.embedding[chosen].float(), dim=-1),
        prediction.logit_grid[chosen].flatten(1),
        prediction.score_logit[chosen],
    )
