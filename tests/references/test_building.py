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
    Judge,
    ReferenceSet,
    Rest,
    Screen,
    Seen,
    Sums,
    add_up,
    build,
    left_out_distances,
    merge,
    screens_of,
)

from .siblings import PATCHES, Line, only, shuffled

ONE, OTHER = Line(seed=10, noise=0.2), Line(seed=11, noise=0.2)


def known_good(seen: Seen, rest: Rest | None = None) -> ReferenceSet:
    return build("bolt", "m", seen, unlabelled=False, rest=rest)


def unlabelled(seen: Seen, rest: Rest | None = None) -> ReferenceSet:
    return build("bolt", "m", seen, unlabelled=True, rest=rest)


def added(earlier: ReferenceSet, seen: Seen, *, unlabelled: bool) -> ReferenceSet:
    """A set to which images are added: its looks hold."""
    found = build("bolt", "m", seen, screens=earlier.screens(), unlabelled=unlabelled)
    return merge(earlier, found)


def numbers_of(found: ReferenceSet) -> list[int]:
    """The images that count, as ``Line.seen`` numbers them."""
    names = (image.uri.removeprefix("s3://line/") for image in found.images)
    return [int(name.removesuffix(".png")) for name in names]


def logits(found: ReferenceSet, tokens: Tensor) -> Tensor:
    """What a set says of images that it has not seen [B]."""
    seen = Line().seen(tokens, 5_000)
    judge = Judge(found, torch.device("cpu"))
    return judge.judge(
        seen.images, seen.tokens, seen.embeddings, seen.grids, seen.logits
    ).score_logit


def fresh(line: Line | None = None) -> Tensor:
    """Four good images and four damaged ones that no set here has seen."""
    line = line or Line()
    return torch.cat([line.tokens(range(300, 304)), line.tokens(range(304, 308), "own")])


def contaminated(good: int, damaged: int, damage: str = "own", seed: int = 0) -> Seen:
    """Images in any order; those from number ``good`` on are damaged."""
    line, tokens = Line(seed), []
    if good:
        tokens.append(line.tokens(range(good)))
    if damaged:
        tokens.append(line.tokens(range(good, good + damaged), damage))
    return only(line.seen(torch.cat(tokens)), shuffled(good + damaged, seed))


def parts(
    tokens: Tensor, cuts: list[int], screens: list[Screen], *, unlabelled: bool = False
) -> list[Rest]:
    """What workers keep of images that are numbered from 64 on, cut anyhow."""
    found, first = [], SAMPLE_SIZE
    for each in torch.tensor_split(tokens, cuts):
        seen = Line().seen(each, first)
        arguments = (seen.images, seen.tokens, seen.embeddings, screens)
        found.append(add_up(*arguments, unlabelled=unlabelled))
        first += len(each)
    return found


# --- known-good images ----------------------------------------------------------------------


@pytest.mark.parametrize("count", [6, 30])
def test_all_images_that_are_known_to_be_good_count(count: int) -> None:
    seen = contaminated(count - 2, 2)
    found = known_good(seen)
    assert found.images == seen.images
    assert (found.num_looked_at, found.abnormal_share, found.unlabelled) == (count, 0.0, False)
    assert [each.sums.num_patches for each in found.looks] == [count * PATCHES]
    assert (found.category, found.model) == ("bolt", "m")
    torch.testing.assert_close(found.embeddings.float(), seen.embeddings, rtol=0, atol=1e-3)


def test_one_known_good_image_is_enough_to_tell_damage() -> None:
    found = known_good(contaminated(1, 0))
    good, damaged = logits(found, fresh()).split(4)
    assert good.isfinite().all()
    assert damaged.mean() > good.mean() + 0.5


def test_readings_are_those_of_images_judged_by_the_others() -> None:
    seen = contaminated(6, 0)
    [look] = known_good(seen).looks
    expected = left_out_distances(seen.tokens, Sums.of(seen.tokens))
    torch.testing.assert_close(look.readings.distances.float(), expected, rtol=1e-3, atol=0)
    torch.testing.assert_close(look.readings.grids.float(), seen.grids, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(look.readings.logits.float(), seen.logits, rtol=1e-3, atol=0)


def test_scores_do_not_depend_on_the_order_of_few_images() -> None:
    seen = contaminated(12, 0)
    one, other = known_good(seen), known_good(only(seen, shuffled(12, 3)))
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
        assert (found.unlabelled, found.num_looked_at) == (True, 60)
        assert found.abnormal_share == pytest.approx(share, abs=0.03)


def test_a_contaminated_bucket_judges_nearly_as_a_clean_one() -> None:
    clean, dirty = known_good(contaminated(36, 0)), unlabelled(contaminated(36, 24))
    good, damaged = logits(dirty, fresh()).split(4)
    assert damaged.min() > good.max() + 1
    assert (logits(dirty, fresh()) - logits(clean, fresh())).abs().max() < 2


def test_damaged_images_that_count_hide_damage() -> None:
    """Why the bucket is screened at all: the same images, all taken as good."""
    screened, all_of_them = unlabelled(contaminated(36, 24)), known_good(contaminated(36, 24))
    damaged = fresh()[4:]
    assert (logits(screened, damaged) > logits(all_of_them, damaged) + 1).all()


def test_a_blank_image_among_good_ones_is_no_obstacle() -> None:
    seen = contaminated(15, 1)
    [blank] = [i for i, image in enumerate(seen.images) if image.uri == "s3://line/15.png"]
    seen.tokens[blank] = seen.tokens[blank, :, 105:106]  # one of the damaged patches, everywhere
    assert 15 not in numbers_of(unlabelled(seen))
    assert logits(known_good(seen), fresh()).isfinite().all()


# --- looks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("without_labels", [True, False])
def test_two_products_of_one_name_are_two_references(without_labels: bool) -> None:
    """Else damage of one would look like the other; each image is judged by its own."""
    tokens = torch.cat([ONE.tokens(range(30)), OTHER.tokens(range(30, 50))])
    seen = only(ONE.seen(tokens), shuffled(50))
    found = unlabelled(seen) if without_labels else known_good(seen)
    looks = dict(zip(numbers_of(found), found.look_of, strict=True))
    assert {looks[i] for i in looks if i < 30} == {0}
    assert {looks[i] for i in looks if i >= 30} == {1}
    assert [each.sums.num_images for each in found.looks] == [
        found.look_of.count(0),
        found.look_of.count(1),
    ]
    for line in (ONE, OTHER):
        good, damaged = logits(found, fresh(line)).split(4)
        assert damaged.min() > good.max() + 1


def test_few_known_good_images_are_one_look() -> None:
    tokens = torch.cat([ONE.tokens(range(8)), OTHER.tokens(range(8, 12))])
    found = known_good(ONE.seen(tokens))
    assert found.look_of == (0,) * 12
    assert [each.sums.num_images for each in found.looks] == [12]


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
        screens_of(tokens, unlabelled=without_labels)


@pytest.mark.parametrize("without_labels", [True, False])
def test_copies_that_differ_by_rounding_are_told_as_well(without_labels: bool) -> None:
    """The last bits of tokens depend on which images share a batch."""
    tokens = Line().tokens(range(1)).repeat(9, 1, 1, 1)
    tokens[8] *= 1 + 1e-6
    with pytest.raises(ValueError, match="all 9 images are the same picture; give different ones"):
        screens_of(tokens, unlabelled=without_labels)


@pytest.mark.parametrize("without_labels", [True, False])
def test_blank_images_are_told(without_labels: bool) -> None:
    same = Line().tokens(range(1))[:, :, :1].expand(9, -1, PATCHES, -1)
    with pytest.raises(ValueError, match="are the same"):
        screens_of(same, unlabelled=without_labels)
    with pytest.raises(ValueError, match="patches of the reference images are the same; are they"):
        screens_of(same[:1], unlabelled=False)


@pytest.mark.parametrize("name", ["tokens", "grids", "logits", "embeddings"])
@pytest.mark.parametrize("without_labels", [True, False])
def test_numbers_that_are_none_are_told(name: str, without_labels: bool) -> None:
    """One such image would make every score of its category no number."""
    seen = contaminated(10, 0)
    broken = getattr(seen, name).clone()
    broken[3] = torch.nan
    with pytest.raises(ValueError, match=r"not finite numbers \(NaN\); try --precision fp32"):
        (unlabelled if without_labels else known_good)(replace(seen, **{name: broken}))


def test_numbers_that_are_none_beyond_the_sample_are_told() -> None:
    seen = contaminated(10, 0)
    screens = screens_of(seen.tokens, unlabelled=True)
    seen.tokens[1, 2, 3, 4] = torch.inf
    with pytest.raises(ValueError, match="not finite numbers"):
        parts(seen.tokens, [], screens)


# --- more images than a sample --------------------------------------------------------------

CUTS = [[1], [8, 16], [3, 4, 17], list(range(1, 24))]


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("without_labels", [True, False])
def test_the_same_scores_whichever_way_the_rest_is_cut_over_workers(
    cuts: list[int], without_labels: bool
) -> None:
    line = Line()
    seen = line.seen(line.tokens(range(SAMPLE_SIZE)))
    screens = screens_of(seen.tokens, unlabelled=without_labels)
    beyond = torch.cat([line.tokens(range(64, 80)), line.tokens(range(80, 88), "own")])

    def of(rests: list[Rest]) -> ReferenceSet:
        total = rests[0]
        for each in rests[1:]:
            total += each
        return build("bolt", "m", seen, screens=screens, unlabelled=without_labels, rest=total)

    whole = of(parts(beyond, [], screens, unlabelled=without_labels))
    rests = parts(beyond, cuts, screens, unlabelled=without_labels)
    cut, turned = of(rests), of(rests[::-1])
    assert cut.images == whole.images
    assert set(turned.images) == set(whole.images)
    assert cut.num_looked_at == whole.num_looked_at == 88
    assert torch.equal(cut.embeddings, whole.embeddings)
    for each in (cut, turned):
        torch.testing.assert_close(logits(each, fresh()), logits(whole, fresh()), rtol=0, atol=1e-6)


def test_images_beyond_the_sample_count_as_those_in_it() -> None:
    tokens = Line().tokens(range(72))
    seen = Line().seen(tokens[:64])
    [rest] = parts(tokens[64:], [], screens_of(seen.tokens, unlabelled=False))
    found = known_good(seen, rest)
    assert numbers_of(found) == list(range(72))
    assert len(found.embeddings) == len(found.look_of) == found.looks[0].sums.num_images == 72
    for one, other in zip(found.looks[0].sums.moments(), Sums.of(tokens).moments(), strict=True):
        torch.testing.assert_close(one, other)


def test_damaged_images_beyond_the_sample_do_not_count() -> None:
    seen, line = contaminated(48, 16), Line()
    screens = screens_of(seen.tokens, unlabelled=True)
    tokens = torch.cat([line.tokens(range(64, 80)), line.tokens(range(80, 90), "own")])
    [rest] = parts(tokens, [], screens, unlabelled=True)
    assert rest.num_looked_at == 26
    assert len(rest.images) == len(rest.embeddings) > 9
    found = unlabelled(seen, rest)
    assert not set(numbers_of(found)) & {*range(48, 64), *range(80, 90)}
    assert found.num_looked_at == 90
    assert found.looks[0].sums.num_images == len(found.images)


def test_a_rest_of_which_nothing_passes_changes_nothing() -> None:
    seen = contaminated(48, 16)
    screens = screens_of(seen.tokens, unlabelled=True)
    [rest] = parts(Line().tokens(range(80, 90), "own"), [], screens, unlabelled=True)
    assert (rest.images, rest.num_looked_at) == ((), 10)
    found, alone = unlabelled(seen, rest), unlabelled(seen)
    assert found.images == alone.images
    torch.testing.assert_close(logits(found, fresh()), logits(alone, fresh()), rtol=0, atol=1e-6)
    assert (found.num_looked_at, alone.num_looked_at) == (74, 64)


# --- adding images --------------------------------------------------------------------------


def test_two_halves_merge_into_nearly_the_whole() -> None:
    line = Line()
    seen = line.seen(line.tokens(range(14)))
    first, second = torch.arange(14).split(7)
    merged = added(known_good(only(seen, first)), only(seen, second), unlabelled=False)
    whole = known_good(seen)
    assert merged.images == whole.images
    assert len(merged.embeddings) == len(merged.look_of) == merged.num_looked_at == 14
    sums = [each.looks[0].sums for each in (merged, whole)]
    ours, theirs = (Gaussian.fit(each).distances(fresh()) for each in sums)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    # Readings keep what each half said of itself: good images come out as better, not as worse.
    difference = logits(merged, fresh()) - logits(whole, fresh())
    assert difference[:4].max() < 0.1
    assert difference.abs().max() < 1.5


def test_a_merged_set_survives_its_file_and_merges_again() -> None:
    one, two, three = (Line().seen(Line().tokens(range(i, i + 4)), i) for i in (0, 4, 8))

    def through_a_file(found: ReferenceSet) -> ReferenceSet:
        return ReferenceSet.from_bytes(found.to_bytes())

    directly = known_good(one)
    again = through_a_file(directly)
    for each in (two, three):
        directly = added(directly, each, unlabelled=False)
        again = through_a_file(added(again, each, unlabelled=False))
    assert numbers_of(again) == numbers_of(directly) == list(range(12))
    torch.testing.assert_close(logits(again, fresh()), logits(directly, fresh()), rtol=0, atol=1e-4)


def test_a_merged_set_keeps_a_bounded_number_of_readings_the_newest_first() -> None:
    one, two = (known_good(Line().seen(Line().tokens(range(i, i + 20)), i)) for i in (0, 20))
    [readings] = [each.readings for each in merge(one, two).looks]
    assert len(readings.distances) == len(readings.grids) == len(readings.logits) == 32
    assert torch.equal(readings.distances[:20], two.looks[0].readings.distances)
    assert torch.equal(readings.distances[20:], one.looks[0].readings.distances[:12])


def test_shares_of_damaged_images_merge_by_the_images_looked_at() -> None:
    line = Line()
    one = known_good(line.seen(line.tokens(range(4))))
    one = replace(one, unlabelled=True, abnormal_share=0.4)
    two = known_good(line.seen(line.tokens(range(4, 16)), 4))
    merged = merge(one, two)
    assert merged.abnormal_share == pytest.approx(0.1)
    assert merged.unlabelled
    assert not merge(two, replace(one, unlabelled=False)).unlabelled


def test_damaged_images_are_not_added_though_they_come_alone() -> None:
    """What is normal is known already, so few images are enough, and none of them need be good."""
    earlier, line = unlabelled(contaminated(30, 0)), Line()
    tokens = torch.cat([line.tokens(range(100, 112)), line.tokens(range(112, 116), "own")])
    merged = added(earlier, line.seen(tokens, 100), unlabelled=True)
    new = set(numbers_of(merged)) - set(numbers_of(earlier))
    assert new <= set(range(100, 112))
    assert len(new) > 6
    assert merged.num_looked_at == 46
    assert merged.abnormal_share == pytest.approx(4 / 46, abs=0.03)
    alone = line.seen(line.tokens(range(116, 119), "own"), 116)
    unchanged = added(earlier, alone, unlabelled=True)
    assert unchanged.images == earlier.images
    assert unchanged.abnormal_share == pytest.approx(3 / 33, abs=0.03)
    before, after = logits(earlier, fresh()), logits(unchanged, fresh())
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("without_labels", [True, False])
def test_images_of_one_look_are_added_where_there_are_two(without_labels: bool) -> None:
    tokens = torch.cat([ONE.tokens(range(30)), OTHER.tokens(range(30, 50))])
    earlier = known_good(ONE.seen(tokens))
    new = torch.cat([OTHER.tokens(range(100, 110)), OTHER.tokens(range(110, 112), "own")])
    merged = added(earlier, ONE.seen(new, 100), unlabelled=without_labels)
    counts = [each.sums.num_images for each in merged.looks]
    assert counts[0] == 30
    assert counts[1] > 25
    assert set(merged.look_of[50:]) == {1}
    for line in (ONE, OTHER):
        assert logits(merged, fresh(line)).isfinite().all()
