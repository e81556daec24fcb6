"""Judges and win rates of the evaluation."""

import numpy as np
import pytest
from rlhfc.stages.common.job import StageError
from rlhfc.stages.common.rollout import Response
from rlhfc.stages.evaluate.judging import Answer, distinct_bigrams, load_judge, side_metrics, win_rate


def test_win_rate_counts_ties_as_half():
    """Two wins, one tie, one loss of four: 0.625, with Wilson's interval of 2.5 in 4."""
    rate = win_rate([0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 2.0, 0.0], 0.95)
    assert (2, 1, 1, 4, 0.625) == tuple(rate[name] for name in ("wins", "losses", "ties", "prompts", "win"))
    assert (pytest.approx(0.2200, abs=1e-3), pytest.approx(0.9073, abs=1e-3)) == (rate["low"], rate["high"])


def test_a_higher_level_gives_a_wider_interval():
    """The spec's `confidence` reaches the interval."""
    narrow, wide = (win_rate([0.0] * 10, [1.0] * 6 + [-1.0] * 4, level) for level in (0.8, 0.99))
    assert wide["low"] < narrow["low"] < 0.6 < narrow["high"] < wide["high"]


def test_distinct_bigrams():
    """Two different pairs of three; single words have none."""
    assert pytest.approx(2 / 3) == distinct_bigrams(["a b a b"])
    assert distinct_bigrams(["a", "b"]) == 0.0


def test_side_metrics_are_means():
    """Scores, lengths, share that stopped, and the KL estimate over own samples."""
    answers = [
        Answer(Response(np.array([1, 2]), True), -1.0, -3.0, "a b", {"rule": 1.0}),
        Answer(Response(np.array([1, 2, 3, 4]), False), -2.0, -2.0, "a c", {"rule": 0.0}),
    ]
    assert {
        "rule_score": 0.5,
        "response_length": 3.0,
        "stopped_share": 0.5,
        "distinct_bigrams": 1.0,
        "kl_to_other": 1.0,
    } == side_metrics(answers)


@pytest.mark.parametrize(
    ("text", "message"),
    [("1 / 0", "fails: ZeroDivisionError"), ("score = 3", "has no function `score`")],
)
def test_judges_that_do_not_work_are_told(tmp_path, text, message):
    """A file that raises, and one without the function."""
    file = tmp_path / "judge.py"
    file.write_text(text)
    with pytest.raises(StageError, match=message):
        load_judge("mine", file)


def test_judge_is_called_with_prompt_and_response(tmp_path):
    """The file's function, as it is."""
    file = tmp_path / "judge.py"
    file.write_text("def score(prompt, response):\n    return len(prompt) - len(response)\n")
    assert load_judge("mine", file)("abc", "a") == 2
