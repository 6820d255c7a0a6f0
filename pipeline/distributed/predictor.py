"""The model on one device, as scorers and builders of references call it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config import ModelSpec
from pipeline.images.normalising import normalise_
from pipeline.models import Prediction
from pipeline.references import Judge, Judgement, normalise

from .loading import load_model
from .references.judges import Judges


class Scored(NamedTuple):
    """One image."""

    score: float
    """In [0, 1], the one to sort by."""
    score_logit: float
    zero_shot_score: float
    """In [0, 1], without references."""
    reference_score: float | None
    """In [0, 1], by references alone; None without."""
    nearest_reference: str | None
    """URI of the most similar reference image; None without."""
    grid: NDArray[np.float16]
    """[H, W] logits of the map."""
    embedding: NDArray[np.float16] | None
    """[E] class embedding of the frozen pass, unit length; None unless asked for."""


class Predictor:
    """One copy of the model."""

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
        self.device = torch.device("cuda" if gpus else "cpu")
        self.model = load_model(model, self.device)
        if (found := self.model.fingerprint()) != fingerprint:
            raise ValueError(
                f"the weights changed since the run began: {found} instead of {fingerprint}"
            )
        self.image_size: int = self.model.settings.image_size
        """Side of the square images that the model takes, in pixels."""
        self._judges, self._embeddings = judges, embeddings

    def score(
        self, pixels: NDArray[np.uint8], categories: list[str], images: Sequence[tuple[str, str]]
    ) -> list[Scored | None]:
        """Score each image; None where the device has no memory even for one.

        Args:
            pixels: [B, S, S, 3], S = ``image_size``; writable.
            categories: B class names.
            images: B URIs with their ETags, by which references that are among them are known.

        Raises:
            ReferencesError: a reference set can't be used.
        """
        try:
            return list(self._predict(pixels, categories, images))
        except torch.OutOfMemoryError:
            pass  # halved outside the handler, whose traceback holds the failed attempt's tensors
        torch.cuda.empty_cache()
        if len(pixels) == 1:
            return [None]
        half = len(pixels) // 2
        return self.score(pixels[:half], categories[:half], images[:half]) + self.score(
            pixels[half:], categories[half:], images[half:]
        )

    def upload(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Pixels [B, S, S, 3] → images [B, 3, S, S] on the device, normalised."""
        host = torch.from_numpy(pixels)
        # Pinned memory is copied while the GPU computes; from any other the copy waits for it.
        host = host.pin_memory() if self.device.type == "cuda" else host
        images = host.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float()
        return normalise_(images.div_(255.0))

    @torch.inference_mode()
    def _predict(
        self, pixels: NDArray[np.uint8], categories: list[str], images: Sequence[tuple[str, str]]
    ) -> Iterator[Scored]:
        judges = self._judges.of(categories, self.device) if self._judges else {}
        keep = bool(judges) or self._embeddings
        prediction = self.model.predict(self.upload(pixels), categories, keep_frozen=keep)
        score, logit = prediction.score.clone(), prediction.score_logit.clone()
        grid, reference = prediction.logit_grid.clone(), torch.full_like(score, torch.nan)
        nearest: list[str | None] = [None] * len(pixels)
        for category, judge in judges.items():
            chosen = [i for i, name in enumerate(categories) if name == category]
            judged = judge_batch(judge, prediction, chosen, [images[i] for i in chosen])
            grid[chosen] = judged.logit_grid.view_as(grid[chosen])
            logit[chosen], score[chosen] = judged.score_logit, judged.score_logit.sigmoid()
            reference[chosen] = judged.reference_logit.sigmoid()
            for i, uri in zip(chosen, judged.nearest, strict=True):
                nearest[i] = uri or None
        values = [score, logit, prediction.score, reference, grid]
        if self._embeddings and prediction.frozen is not None:
            values.append(F.normalize(prediction.frozen.embedding.float(), dim=-1))
        values = [each.to("cpu", non_blocking=True) for each in values]
        if self.device.type == "cuda":  # the only wait of a batch
            torch.cuda.current_stream(self.device).synchronize()
        return _rows(values, nearest)


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


def _rows(values: list[Tensor], nearest: list[str | None]) -> Iterator[Scored]:
    score, logit, zero_shot, reference, grid, *embedding = values
    grids = grid.numpy().astype(np.float16)
    embeddings = embedding[0].numpy().astype(np.float16) if embedding else [None] * len(grids)
    for i, (told, uri) in enumerate(zip(reference.tolist(), nearest, strict=True)):
        yield Scored(
            score=float(score[i]),
            score_logit=float(logit[i]),
            zero_shot_score=float(zero_shot[i]),
            reference_score=None if told != told else told,  # NaN: without references
            nearest_reference=uri,
            grid=grids[i],
            embedding=embeddings[i],
        )
