from collections import Counter

import numpy as np
import pytest
from rlhfc.stages.data_split.splitting import (
    NOWHERE,
    PLACES,
    Place,
    Placement,
    held_out,
    permutation,
    repeated,
    shares,
    thinned,
)


def test_shares_by_largest_remainder():
    """11 by 2:4:4 is 2.2, 4.4, 4.4: the two left over go to the largest remainders, ties to the first."""
    assert [2, 5, 4] == shares(11, [2, 4, 4])
    assert [2, 4, 4] == shares(10, [2, 4, 4])
    assert [1, 0, 0] == shares(1, [1, 1, 1])
    assert [0, 7] == shares(7, [0, 3])


def test_held_out_leaves_something_on_both_sides():
    """At least one prompt is held out and one kept, whatever rounding says; 0 and 1 mean none and all."""
    assert [0, 1, 1, 10, 4] == [
        held_out(n, f) for n, f in [(1, 0.1), (2, 0.1), (3, 0.4), (100, 0.1), (9, 0.45)]
    ]
    assert [0, 9] == [held_out(9, fraction) for fraction in (0.0, 1.0)]


def test_order_depends_on_seed_and_purpose_alone():
    """A golden order: every machine must split alike, or results could not be shared."""
    assert [4, 3, 1, 0, 2] == permutation(5, 1234, "source 0").tolist()
    orders = {tuple(permutation(9, seed, why).tolist()) for seed in (1, 2) for why in ("a", "b")}
    assert 4 == len(orders)
    assert [] == permutation(0, 1, "a").tolist()


def prompts(*numbers):
    """Digests that stand for prompts."""
    return np.array([b"%016d" % number for number in numbers], dtype="S16")


def places(placement, found):
    """Place of each prompt."""
    return [None if place == NOWHERE else PLACES[place] for place in placement.find(found)]


def test_a_prompt_keeps_its_place_across_sources():
    """Prompts that an earlier source has placed stay there, and do not count for the shares of a later."""
    placement = Placement()
    weights = {"sft": 2, "reward": 4, "prompts": 4}
    earlier, later = prompts(*range(100), *range(50)), prompts(*range(90, 110))
    placement.assign(earlier, weights, eval_fraction=0.1, seed=1, purpose="a")
    first = places(placement, earlier)
    assert {"sft": 20, "reward": 40, "prompts": 40} == Counter(place.part for place in first[:100])
    assert 10 == sum(place.side == "eval" for place in first[:100])
    placement.assign(later, {"sft": 1, "prompts": 1}, eval_fraction=0.1, seed=1, purpose="b")
    assert first == places(placement, earlier)
    fresh = places(placement, later)[10:]
    assert {
        Place("sft", "train"),
        Place("sft", "eval"),
        Place("prompts", "train"),
        Place("prompts", "eval"),
    } == set(fresh)


def test_rows_that_no_part_wants_get_no_place():
    """All weights zero for what a source can feed: nothing is assigned."""
    placement = Placement()
    placement.assign(prompts(1, 2), {"sft": 0, "prompts": 0}, eval_fraction=0.1, seed=1, purpose="a")
    assert [None, None] == places(placement, prompts(1, 2))


def test_repetitions():
    """A value that was there before, or earlier in the same batch."""
    assert [False, True, True, False] == repeated(prompts(7), prompts(1, 1, 7, 2)).tolist()
    assert [] == repeated(prompts(), prompts()).tolist()


@pytest.mark.parametrize(("weight", "expected"), [(2.0, [2] * 40), (1.0, [1] * 40), (0.25, 10), (1.5, 60)])
def test_weights_repeat_and_thin(weight, expected):
    """Whole copies of every row, and a share of one that the seed draws, the same each time."""
    rows = np.arange(40)
    counts = np.bincount(thinned(rows, weight, 1, "a"), minlength=40)
    if isinstance(expected, list):
        assert expected == counts.tolist()
    else:
        assert expected == counts.sum()
        assert {int(weight), int(weight) + 1} == set(counts.tolist())
        assert counts.tolist() != np.bincount(thinned(rows, weight, 2, "a"), minlength=40).tolist()
