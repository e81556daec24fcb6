"""Which tokens SFT learns, and that the loss is theirs alone."""

import numpy as np
import pytest
import torch
from rlhfc.stages.common.modules import Policy
from rlhfc.stages.common.tokenfiles import TokenFile, TokenWriter, write_meta
from rlhfc.stages.sft.main import DemonstrationLoss
from torch.nn.functional import cross_entropy

# prompt, response, where in the prompt earlier answers are
ROWS = [
    ([1, 5, 6, 7, 8, 9], [10, 11, 2], [2, 4]),
    ([1, 5], [6, 2], []),
    ([1, 4, 5, 6, 7, 8, 9, 10], [2], [1, 2, 4, 7]),
]
LEARNT = {
    "completion": [{6, 7, 8}, {2, 3}, {8}],
    "answers": [{2, 3, 6, 7, 8}, {2, 3}, {1, 4, 5, 6, 8}],
    "all": [set(range(1, 9)), {1, 2, 3}, set(range(1, 9))],
}


@pytest.fixture
def rows(tmp_path):
    """A token file of these rows."""
    with TokenWriter(tmp_path, "train") as writer:
        for row in ROWS:
            writer.add([np.array(segment, dtype=np.uint32) for segment in row])
    write_meta(tmp_path, "demonstrations", {"train": len(ROWS)})
    return TokenFile(tmp_path, "train")


def test_positions_are_no_tokens(rows):
    """The length of a row is that of its tokens."""
    assert [9, 4, 9] == rows.lengths().tolist()


@pytest.mark.parametrize("loss_on", LEARNT)
def test_tokens_that_are_learnt(rows, causal_lm, loss_on):
    """The last answer, all answers, or all but the first token, which nothing predicts."""
    loss = DemonstrationLoss(Policy(causal_lm), rows, loss_on, 0, torch.device("cpu"))
    assert LEARNT[loss_on] == [set(np.flatnonzero(loss.learnt(row)).tolist()) for row in range(len(ROWS))]
    assert [len(found) for found in LEARNT[loss_on]] == [loss.tokens(row) for row in range(len(ROWS))]


@pytest.mark.parametrize("loss_on", LEARNT)
def test_loss_is_the_cross_entropy_of_these_tokens(rows, causal_lm, loss_on):
    """Of a padded batch: the sum over rows of what each alone gives, the end-of-sequence token included."""
    loss = DemonstrationLoss(Policy(causal_lm), rows, loss_on, 0, torch.device("cpu"))
    expected = 0.0
    for (prompt, response, _), learnt in zip(ROWS, LEARNT[loss_on], strict=True):
        ids = torch.tensor([[*prompt, *response]])
        logits = causal_lm(ids).logits[0]
        expected += sum(float(cross_entropy(logits[at - 1], ids[0, at]).detach()) for at in sorted(learnt))
    assert expected == pytest.approx(float(loss.summed(range(len(ROWS)))), abs=1e-4)


@pytest.mark.parametrize("loss_on", LEARNT)
def test_labels_that_count(rows, causal_lm, loss_on, monkeypatch):
    """The loss is given exactly the learnt tokens as labels, each beside what predicts it."""
    loss = DemonstrationLoss(Policy(causal_lm), rows, loss_on, 0, torch.device("cpu"))
    seen = []
    monkeypatch.setattr(
        "rlhfc.stages.sft.main.summed_cross_entropy",
        lambda logits, targets, counted: seen.append((targets, counted)) or logits.sum(),
    )
    loss.summed([0, 2])
    targets, counted = seen[0]
    ids = [np.concatenate(ROWS[row][:2]) for row in (0, 2)]
    wanted = [[int(ids[n][at]) for at in sorted(LEARNT[loss_on][row])] for n, row in enumerate((0, 2))]
    assert wanted == [targets[n][counted[n]].tolist() for n in range(2)]
