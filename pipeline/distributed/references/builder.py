"""The actor that makes reference sets: pixels of one category → sums, and the set's file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipeline.config import ModelSpec
from pipeline.distributed.scorer import pixels_of
from pipeline.tiling import version_of

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.models import FrozenPass, Prediction
    from pipeline.references import Rest, Screen, Seen


class ReferenceBuilder:
    """One copy of the model on one device; keeps nothing between calls."""

    def __init__(
        self,
        model: ModelSpec,
        *,
        fingerprint: str,
        gpus: float,
        num_threads: int,
        batch_size: int,
    ) -> None:
        """Load the model; arguments and errors are those of ``AnomalyScorer``."""
        from pipeline.distributed.predictor import Predictor  # not above: see AnomalyScorer

        self._predictor = Predictor(
            model, fingerprint=fingerprint, gpus=gpus, num_threads=num_threads
        )
        self._batch_size = batch_size

    def screens(
        self, blocks: Sequence[Any], earlier: bytes | None, *, unlabelled: bool
    ) -> list[Screen]:
        """What is normal in a sample, by look.

        Args:
            blocks: tables of ``schema.pixel_schema``, of one category, or references to them.
            earlier: file of a set to which these images are added: its looks hold.
            unlabelled: leave out what looks damaged.

        Raises:
            ValueError: images that are no use (``pipeline.references``).
        """
        from pipeline.references import screens_of

        screens = self._earlier(earlier)
        if screens is None:
            screens = screens_of(self._look(_readable(blocks))[0], unlabelled=unlabelled)
        return [each.to("cpu") for each in screens]

    def add_up(self, block: pa.Table, screens: Sequence[Screen], *, unlabelled: bool) -> Rest:
        """What to keep of images beyond the sample."""
        from pipeline.references import add_up

        tokens, embeddings = self._look(rows := _readable([block]))
        here = [each.to(self._predictor.device) for each in screens]
        rest = add_up(_images(rows), tokens, embeddings, here, unlabelled=unlabelled)
        return rest.to("cpu")

    def build(
        self,
        category: str,
        model: str,
        blocks: Sequence[Any],
        rest: Rest | None,
        earlier: bytes | None,
        *,
        unlabelled: bool,
    ) -> tuple[bytes, dict[str, Any]]:
        """The file of a reference set, and what the catalogue says of it.

        Args:
            category: its name.
            model: fingerprint of AdaCLIP and the decoder.
            blocks: of the sample, as of ``screens``.
            rest: of the images beyond.
            earlier: file of a set to which these images are added.
            unlabelled: leave out what looks damaged.

        Raises:
            ValueError: images that are no use (``pipeline.references``).
        """
        from pipeline.references import ReferenceSet, build, merge

        seen = self._see(_readable(blocks), category)
        rest = rest.to(self._predictor.device) if rest else None
        screens = self._earlier(earlier)
        found = build(category, model, seen, unlabelled=unlabelled, screens=screens, rest=rest)
        if earlier is not None:
            found = merge(ReferenceSet.from_bytes(earlier), found)
        return found.to_bytes(), {
            "num_images": len(found.images),
            "num_looks": len(found.looks),
            "num_looked_at": found.num_looked_at,
            "abnormal_share": round(found.abnormal_share, 4),
            "unlabelled": found.unlabelled,
            "created": found.created,
            "images": tuple(tuple(image) for image in found.images),
        }

    def _earlier(self, earlier: bytes | None) -> list[Screen] | None:
        from pipeline.references import ReferenceSet

        if earlier is None:
            return None
        screens = ReferenceSet.from_bytes(earlier).screens()
        return [each.to(self._predictor.device) for each in screens]

    def _look(self, rows: pa.Table) -> tuple[Tensor, Tensor]:
        """Tokens [M, T, N, C] and class embeddings [M, E] of the frozen pass alone."""
        passes = self._in_batches(rows, lambda images, _: self._predictor.model.look(images))
        return _tokens(passes), _embeddings(passes)

    def _see(self, rows: pa.Table, category: str) -> Seen:
        import torch

        from pipeline.references import Seen

        def predict(images: Tensor, count: int) -> Prediction:
            names = [category] * count
            return self._predictor.model.predict(images, names, keep_frozen=True)

        predictions = self._in_batches(rows, predict)
        passes = [each.frozen for each in predictions]
        return Seen(
            _images(rows),
            _tokens(passes),
            _embeddings(passes),
            torch.cat([each.logit_grid.flatten(1) for each in predictions]),
            torch.cat([each.score_logit for each in predictions]),
        )

    def _in_batches(self, rows: pa.Table, run: Callable[[Tensor, int], Any]) -> list[Any]:
        size = self._batch_size
        parts = [rows.slice(i, size) for i in range(0, len(rows), size)]
        pixels = [pixels_of(part["pixels"], self._predictor.image_size) for part in parts]
        return [run(self._predictor.upload(each), len(each)) for each in pixels]


def _readable(blocks: Sequence[Any]) -> pa.Table:
    tables = [ray.get(each) if isinstance(each, ray.ObjectRef) else each for each in blocks]
    rows = pa.concat_tables(tables)
    readable = rows.filter(pc.is_valid(rows["pixels"]))
    if not len(readable):
        raise ValueError(f"none of {len(rows)} images can be read")
    return readable


def _images(rows: pa.Table) -> tuple[Any, ...]:
    from pipeline.references import ReferenceImage

    names = zip(*(rows[name].to_pylist() for name in ("uri", "etag", "tile")), strict=True)
    return tuple(ReferenceImage(uri, version_of(etag, tile)) for uri, etag, tile in names)


def _tokens(passes: Sequence[FrozenPass]) -> Tensor:
    import torch

    from pipeline.references import normalise

    return torch.cat([normalise(each.tokens) for each in passes])


def _embeddings(passes: Sequence[FrozenPass]) -> Tensor:
    import torch

    each = torch.cat([each.embedding.float() for each in passes])
    return torch.nn.functional.normalize(each, dim=-1)
