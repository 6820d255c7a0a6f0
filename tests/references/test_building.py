"""Reference sets made of images: which count, what can't be used, and that cuts don't matter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipeline.references import (
    LEAST_UNLABELLED,
    SAMPLE_SIZE,
    Gaussian,
    ReferenceSet,
    Rest,
    Screen,
    Seen,
    Sums,
    add_up,
    build,
    left_out_distances,
    merge,
    screen,
)

from .siblings import PATCHES, Line, shuffled

CPU = "cpu"


def known_good(seen: Seen, rest: Rest | None = None) -> ReferenceSet:
    return build("bolt", "m", seen, unlabelled=False, rest=rest)


def unlabelled(seen: Seen, rest: Rest | None = None) -> ReferenceSet:
    return build("bolt", "m", seen, unlabelled=True, rest=rest)


def numbers_of(found: ReferenceSet) -> list[int]:
    """The images that count, as ``Line.seen`` numbers them."""
    return [
        int(image.uri.removeprefix("s3://line/").removesuffix(".png")) for image in found.images
    ]


def logits(found: ReferenceSet, tokens: Tensor) -> Tensor:
    """What a set says of other images [B]."""
    seen = Line().seen(tokens, 500)
    distances = Gaussian.fit(found.sums).distances(tokens)
    return found.scale().judge(distances, seen.grids, seen.logits).score_logit


def fresh() -> Tensor:
    """Good and damaged images that no set here has seen."""
    return torch.cat([Line().tokens(range(300, 304)), Line().tokens(range(304, 308), "own")])


def contaminated(good: int, damaged: int, damage: str = "own", seed: int = 0) -> Seen:
    """Images in any order; those from number ``good`` on are damaged."""
    line = Line(seed)
    tokens = torch.cat(
        [
            line.tokens(range(good)),
            *([line.tokens(range(good, good + damaged), damage)] * (damaged > 0)),
        ]
    )
    return line.seen(tokens).only(shuffled(good + damaged, seed))


def parts(tokens: Tensor, cuts: list[int], screened: Screen | None) -> list[Rest]:
    """What workers keep of images that are numbered from 64 on, cut anyhow."""
    found, first = [], SAMPLE_SIZE
    for each in torch.tensor_split(tokens, cuts):
        seen = Line().seen(each, first)
        found.append(add_up(seen.images, seen.tokens, seen.embeddings, screened))
        first += len(each)
    return found


# --- known-good images ----------------------------------------------------------------------


def test_all_images_that_are_known_to_be_good_count() -> None:
    seen = contaminated(4, 2)
    found = known_good(seen)
    assert found.images == seen.images
    assert (found.num_looked_at, found.abnormal_share, found.unlabelled) == (6, 0.0, False)
    assert found.sums.num_patches == 6 * PATCHES
    assert (found.category, found.model) == ("bolt", "m")
    torch.testing.assert_close(found.embeddings.float(), seen.embeddings, rtol=0, atol=1e-3)


def test_one_known_good_image_is_enough_to_tell_damage() -> None:
    found = known_good(contaminated(1, 0))
    good, damaged = logits(found, fresh()).split(4)
    assert good.isfinite().all()
    assert damaged.mean() > good.mean() + 0.5


def test_readings_are_those_of_images_judged_by_the_others() -> None:
    seen = contaminated(6, 0)
    readings = known_good(seen).readings
    expected = left_out_distances(seen.tokens, Sums.of(seen.tokens))
    torch.testing.assert_close(readings.distances.float(), expected, rtol=1e-3, atol=0)
    torch.testing.assert_close(readings.logits.float(), seen.logits, rtol=1e-3, atol=0)


def test_scores_do_not_depend_on_the_order_of_few_images() -> None:
    seen = contaminated(12, 0)
    one, other = known_good(seen), known_good(seen.only(shuffled(12, 3)))
    torch.testing.assert_close(logits(one, fresh()), logits(other, fresh()), rtol=0, atol=1e-5)


# --- images without labels ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "damage"), [(0.0, "own"), (0.05, "own"), (0.2, "own"), (0.4, "own"), (0.1, "same")]
)
def test_damaged_images_of_a_bucket_do_not_count_and_their_share_is_told(
    share: float, damage: str
) -> None:
    for seed in (0, 2):
        damaged = round(share * 60)
        found = unlabelled(contaminated(60 - damaged, damaged, damage, seed))
        numbers = numbers_of(found)
        assert max(numbers) < 60 - damaged
        assert len(numbers) > 0.6 * (60 - damaged)
        assert found.unlabelled
        assert found.num_looked_at == 60
        assert found.abnormal_share == pytest.approx(share, abs=0.03)


def test_a_contaminated_bucket_judges_nearly_as_a_clean_one() -> None:
    clean, dirty = known_good(contaminated(36, 0)), unlabelled(contaminated(36, 24))
    good, damaged = logits(dirty, fresh()).split(4)
    assert damaged.min() > good.max() + 1
    # Of the good images, the nearest count: the others look a little farther than they are.
    assert (logits(dirty, fresh()) - logits(clean, fresh())).abs().max() < 6


def test_damaged_images_that_count_hide_damage() -> None:
    """Why the bucket is screened at all: the same images, all taken as good."""
    screened, all_of_them = unlabelled(contaminated(36, 24)), known_good(contaminated(36, 24))
    damaged = fresh()[4:]
    assert (logits(screened, damaged) > logits(all_of_them, damaged) + 2).all()


def test_a_blank_image_among_good_ones_is_no_obstacle() -> None:
    seen = contaminated(15, 1)
    blank = int((torch.tensor([i.uri == "s3://line/15.png" for i in seen.images])).nonzero())
    seen.tokens[blank] = seen.tokens[blank, :, :1]
    assert 15 not in numbers_of(unlabelled(seen))
    assert logits(known_good(seen), fresh()).isfinite().all()


# --- what can't be used ---------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, LEAST_UNLABELLED - 1])
def test_too_few_images_without_labels_are_told(count: int) -> None:
    words = f"{count} images are too few to find out without labels what is normal; 8 are needed"
    with pytest.raises(ValueError, match=words):
        unlabelled(contaminated(count, 0))
    assert len(known_good(contaminated(count, 0)).images) == count
    assert unlabelled(contaminated(LEAST_UNLABELLED, 0)).images


@pytest.mark.parametrize("without_labels", [True, False])
def test_copies_of_one_picture_are_told(without_labels: bool) -> None:
    tokens = Line().tokens(range(1)).expand(9, -1, -1, -1)
    with pytest.raises(ValueError, match="all 9 images are the same picture; give different ones"):
        build("bolt", "m", Line().seen(tokens), unlabelled=without_labels)


@pytest.mark.parametrize("without_labels", [True, False])
def test_copies_that_differ_by_rounding_are_told_as_well(without_labels: bool) -> None:
    """The last bits of tokens depend on which images share a batch."""
    tokens = Line().tokens(range(1)).repeat(9, 1, 1, 1)
    tokens[8] *= 1 + 1e-7
    with pytest.raises(ValueError, match="all 9 images are the same picture; give different ones"):
        build("bolt", "m", Line().seen(tokens), unlabelled=without_labels)


@pytest.mark.parametrize("without_labels", [True, False])
def test_blank_images_are_told(without_labels: bool) -> None:
    """Each of its own shade: every patch of one is the same, those of two are not."""
    shades = Line().tokens(range(9))[:, :, :1].expand(-1, -1, PATCHES, -1)
    same = shades[:1].expand(9, -1, -1, -1)
    with pytest.raises(ValueError, match="are the same"):
        build("bolt", "m", Line().seen(same), unlabelled=without_labels)
    with pytest.raises(ValueError, match="are the same.* blank"):
        build("bolt", "m", Line().seen(same[:1]), unlabelled=False)


@pytest.mark.parametrize("name", ["tokens", "grids", "logits", "embeddings"])
@pytest.mark.parametrize("without_labels", [True, False])
def test_numbers_that_are_none_are_told(name: str, without_labels: bool) -> None:
    """One such image would make every score of its category no number."""
    seen = contaminated(10, 0)
    broken = getattr(seen, name).clone()
    broken[3] = torch.nan
    with pytest.raises(ValueError, match=r"not finite numbers \(NaN\); try --precision fp32"):
        build("bolt", "m", replace(seen, **{name: broken}), unlabelled=without_labels)


def test_numbers_that_are_none_beyond_the_sample_are_told() -> None:
    seen = contaminated(4, 0)
    seen.tokens[1, 2, 3, 4] = torch.inf
    with pytest.raises(ValueError, match="not finite numbers"):
        add_up(seen.images, seen.tokens, seen.embeddings, None)


# --- more images than a sample --------------------------------------------------------------

CUTS = [[], [1], [8, 16], [3, 4, 17], list(range(1, 24))]


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("without_labels", [True, False])
def test_the_same_scores_whichever_way_the_rest_is_cut_over_workers(
    cuts: list[int], without_labels: bool
) -> None:
    line = Line()
    seen = line.seen(line.tokens(range(SAMPLE_SIZE)))
    made = screen(seen.tokens) if without_labels else None
    beyond = torch.cat([line.tokens(range(64, 80)), line.tokens(range(80, 88), "own")])

    def of(rests: list[Rest]) -> ReferenceSet:
        total = rests[0]
        for each in rests[1:]:
            total += each
        return build("bolt", "m", seen, unlabelled=without_labels, rest=total)

    whole, cut = of(parts(beyond, [], made)), of(parts(beyond, cuts, made))
    assert cut.images == whole.images
    assert cut.num_looked_at == whole.num_looked_at == 88
    assert torch.equal(cut.embeddings, whole.embeddings)
    torch.testing.assert_close(logits(cut, fresh()), logits(whole, fresh()), rtol=0, atol=1e-6)
    other_way = of(parts(beyond, cuts, made)[::-1])
    assert set(other_way.images) == set(whole.images)
    torch.testing.assert_close(
        logits(other_way, fresh()), logits(whole, fresh()), rtol=0, atol=1e-6
    )


def test_images_beyond_the_sample_count_as_those_in_it() -> None:
    line = Line()
    tokens = line.tokens(range(72))
    [rest] = parts(tokens[64:], [], None)
    found = known_good(line.seen(tokens[:64]), rest)
    assert numbers_of(found) == list(range(72))
    assert found.sums.num_images == len(found.embeddings) == 72
    mean, covariance = Sums.of(tokens).moments()
    torch.testing.assert_close(found.sums.moments()[0], mean)
    torch.testing.assert_close(found.sums.moments()[1], covariance)


def test_damaged_images_beyond_the_sample_do_not_count() -> None:
    line = Line()
    seen = contaminated(48, 16)
    made = screen(seen.tokens)
    tokens = torch.cat([line.tokens(range(64, 80)), line.tokens(range(80, 90), "own")])
    [rest] = parts(tokens, [], made)
    assert rest.num_looked_at == 26
    assert len(rest.images) == len(rest.embeddings) > 9
    found = unlabelled(seen, rest)
    assert not set(numbers_of(found)) & {*range(48, 64), *range(80, 90)}
    assert found.num_looked_at == 90
    assert found.sums.num_images == len(found.images)


def test_a_rest_of_which_nothing_passes_changes_nothing() -> None:
    line = Line()
    seen = contaminated(48, 16)
    [rest] = parts(line.tokens(range(80, 90), "own"), [], screen(seen.tokens))
    assert (rest.sums, rest.images) == (None, ())
    found, alone = unlabelled(seen, rest), unlabelled(seen)
    assert torch.equal(logits(found, fresh()), logits(alone, fresh()))
    assert (found.num_looked_at, alone.num_looked_at) == (74, 64)
    [other] = parts(line.tokens(range(64, 66)), [], None)
    for both in (rest + other, other + rest):
        assert both.images == other.images
        assert both.sums is not None
        assert both.sums.num_images == 2


# --- adding images --------------------------------------------------------------------------


def halves(one: Seen, other: Seen) -> tuple[ReferenceSet, ReferenceSet]:
    return known_good(one), known_good(other)


def test_two_halves_merge_into_nearly_the_whole() -> None:
    line = Line()
    seen = line.seen(line.tokens(range(20)))
    first, second = torch.arange(20).split(10)
    merged = merge(known_good(seen.only(first)), known_good(seen.only(second)))
    whole = known_good(seen)
    assert set(merged.images) == set(whole.images)
    assert merged.sums.num_images == len(merged.embeddings) == merged.num_looked_at == 20
    ours, theirs = (Gaussian.fit(each.sums).distances(fresh()) for each in (merged, whole))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    # Readings keep what each half said of itself: good images come out as better, not as worse.
    difference = logits(merged, fresh()) - logits(whole, fresh())
    assert difference[:4].max() < 0.1
    assert difference.abs().max() < 1.5


def test_a_merged_set_survives_its_file_and_merges_again() -> None:
    line = Line()
    one, two, three = (known_good(line.seen(line.tokens(range(i, i + 4)), i)) for i in (0, 4, 8))
    again = ReferenceSet.from_bytes(merge(ReferenceSet.from_bytes(one.to_bytes()), two).to_bytes())
    found, directly = merge(again, three), merge(merge(one, two), three)
    assert numbers_of(found) == list(range(12))
    torch.testing.assert_close(logits(found, fresh()), logits(directly, fresh()), rtol=0, atol=1e-4)


def test_a_merged_set_keeps_a_bounded_number_of_readings_the_newest_first() -> None:
    line = Line()
    one, two = (known_good(line.seen(line.tokens(range(i, i + 20)), i)) for i in (0, 20))
    readings = merge(one, two).readings
    assert len(readings.distances) == len(readings.grids) == len(readings.logits) == 32
    assert torch.equal(readings.distances[:20], two.readings.distances)
    assert torch.equal(readings.distances[20:], one.readings.distances[:12])


def test_shares_of_damaged_images_merge_by_the_images_looked_at() -> None:
    line = Line()
    one = replace(known_good(line.seen(line.tokens(range(4)))), unlabelled=True, abnormal_share=0.4)
    two = known_good(line.seen(line.tokens(range(4, 16)), 4))
    merged = merge(one, two)
    assert merged.abnormal_share == pytest.approx(0.1)
    assert merged.unlabelled
    assert not merge(two, replace(one, unlabelled=False)).unlabelled
