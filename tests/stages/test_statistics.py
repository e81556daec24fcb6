"""Calibration and correlation by hand-worked numbers."""

import json
import math

import numpy as np
import pytest
from rlhfc.stages.common.losses import summed_preference_loss
from rlhfc.stages.common.pairs import Judged, preference_figures
from rlhfc.stages.common.statistics import calibration, calibration_error, correlation
from rlhfc.stages.reward.report import write_report


def test_calibration_counts_how_often_the_preferred_side_is_chosen():
    """Four pairs at confidence 0.75, three of them right: no gap. Two at 0.9, none right: a gap of 0.9."""
    sure, surer = math.log(3), math.log(9)
    bins = calibration(np.array([sure, sure, sure, -sure, -surer, -surer]))
    assert [(0.75, 0.75, 4), (0.9, 0.0, 2)] == [
        (pytest.approx(each.confidence), each.accuracy, each.count) for each in bins
    ]
    assert 0.9 * 2 / 6 == pytest.approx(calibration_error(bins))


def test_ties_are_half_right_and_fully_unsure():
    """A difference of nothing: confidence one half, right half of the time, no gap."""
    (only,) = calibration(np.zeros(3))
    assert (0.5, 0.5, 3) == (only.confidence, only.accuracy, only.count)
    assert 0.0 == calibration_error([]) == calibration_error([only])


def test_certainty_falls_into_the_last_bin():
    """Also when σ rounds to one."""
    (only,) = calibration(np.array([1e4]))
    assert (1.0, 1.0, 1) == (only.confidence, only.accuracy, only.count)


def test_correlation_of_what_does_not_vary_is_none():
    """Else Pearson's."""
    assert 1.0 == pytest.approx(correlation(np.array([1, 2, 3]), np.array([2, 4, 6])))
    assert -0.5 == pytest.approx(correlation(np.array([1, 2, 3]), np.array([3, 1, 2])))
    assert 0.0 == correlation(np.array([1, 1]), np.array([1, 2])) == correlation(np.array([1]), np.array([1]))


LONG_IS_GOOD = Judged(np.array([[3.0, 1.0], [2.0, 4.0]], dtype=np.float32), np.array([[30, 10], [20, 40]]))


def test_scores_that_grow_with_length_are_told():
    """Scores that are a tenth of the lengths: correlation 1; accuracy one half, loss the mean of two."""
    figures = preference_figures(LONG_IS_GOOD, summed_preference_loss, "score")
    assert 1.0 == pytest.approx(figures["eval_length_correlation"])
    assert (0.5, 2.5, 2.5, 2) == tuple(
        figures[f"eval_{name}"] for name in ("accuracy", "chosen_score", "rejected_score", "pairs")
    )
    assert (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2 == pytest.approx(figures["eval_loss"])


def test_no_pairs_give_no_figures(tmp_path):
    """A reward model without held-out pairs is saved all the same."""
    nothing = Judged(np.zeros((0, 2), dtype=np.float32), np.zeros((0, 2)))
    figures = preference_figures(nothing, summed_preference_loss, "score")
    assert 0 == figures["eval_accuracy"]
    write_report(tmp_path, nothing, figures)
    assert json.loads((tmp_path / "reward_report.json").read_text())["scores"] is None


def test_report_has_statistics_histogram_and_calibration(tmp_path):
    """Of both sides: mean 2.5, deviation of 1, 2, 3, 4; margins 2 and -2."""
    write_report(tmp_path, LONG_IS_GOOD, {"eval_accuracy": 0.5})
    report = json.loads((tmp_path / "reward_report.json").read_text())
    assert {"eval_accuracy": 0.5} == report["figures"]
    assert {"mean": 2.5, "deviation": pytest.approx(math.sqrt(1.25))} == report["scores"]
    assert (2, -2.0, 2.0) == (
        sum(report["margins"]["counts"]),
        report["margins"]["edges"][0],
        report["margins"]["edges"][-1],
    )
    assert [2] == [each["count"] for each in report["calibration"]]
