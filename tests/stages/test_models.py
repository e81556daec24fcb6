"""Models in and out, log-probabilities, scores and rollouts on a tiny Llama."""

import json

import numpy as np
import pytest
import torch
from rlhfc.stages.common.experience import Row, pad_pairs, response_values
from rlhfc.stages.common.job import InputPath, StageError
from rlhfc.stages.common.models import add_lora, load_causal_lm, load_reward_model, save_model
from rlhfc.stages.common.modules import Policy, Scorer, response_choices, response_log_probs, row_positions
from rlhfc.stages.common.rollout import Decoding, pick, respond
from rlhfc.stages.common.update import Rules, aim, minibatches
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhfc.kind import LoraParams

CPU = torch.device("cpu")
PROMPTS = [np.array([5, 6, 7]), np.array([9]), np.array([3, 4, 5, 6, 7, 8])]
RESPONSES = [np.array([10, 2]), np.array([11, 12, 13, 2]), np.array([14])]


def still() -> None:
    """Show no sign of life."""


def decoding(**changes) -> Decoding:
    """Eight sampled tokens at most, stopping at 2."""
    settings = {"max_tokens": 8, "temperature": 1.0, "stop_ids": frozenset({2}), "filler": 0, "seed": 3}
    return Decoding(**(settings | changes))


def draw(model, places, **changes):
    """Responses to the prompts at ``places``, each under its own number."""
    chosen = [PROMPTS[place] for place in places]
    return respond(Policy(model), chosen, places, decoding(**changes), device=CPU, all_done=bool, beat=still)


def test_response_log_probs_equal_those_of_each_row_alone(causal_lm):
    """Padding, neighbours and the selected head positions change nothing."""
    batch = pad_pairs(PROMPTS, RESPONSES, 0, CPU)
    about = (batch.ids, batch.mask, batch.starts, batch.responses, 0.7)
    found, entropy = response_choices(Policy(causal_lm), *about)
    assert torch.equal(found, response_log_probs(Policy(causal_lm), *about))
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        ids = torch.from_numpy(np.concatenate([prompt, response]))[None]
        with torch.no_grad():
            full = (causal_lm(ids).logits[0] / 0.7).log_softmax(-1)
        places = range(len(prompt) - 1, len(prompt) + len(response) - 1)
        expected = [float(full[place, ids[0, place + 1]]) for place in places]
        assert expected == pytest.approx(found[row, : len(response)].tolist(), abs=1e-5)
        entropies = [float(-(full[place].exp() * full[place]).sum()) for place in places]
        assert entropies == pytest.approx(entropy[row, : len(response)].tolist(), abs=1e-5)


def test_score_is_read_at_the_last_real_token(classifier):
    """A row scores the same alone, in a batch, and in transformers' own forward."""
    batch = pad_pairs(PROMPTS, RESPONSES, 0, CPU)
    with torch.no_grad():
        together = Scorer(classifier)(batch.ids, batch.mask).gather(1, batch.ends.unsqueeze(1)).squeeze(1)
        for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
            ids = torch.from_numpy(np.concatenate([prompt, response]))[None]
            assert float(classifier(ids).logits) == pytest.approx(float(together[row]), abs=1e-5)


def test_values_are_those_seen_before_each_token(classifier):
    """The value of response token 0 is read at the last prompt token."""
    batch = pad_pairs(PROMPTS, RESPONSES, 0, CPU)
    with torch.no_grad():
        every = Scorer(classifier)(batch.ids, batch.mask)
        values = response_values(Scorer(classifier), batch)
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        first = len(prompt) - 1
        assert torch.equal(every[row, first : first + len(response)], values[row, : len(response)])


def test_greedy_rollout_equals_transformers_generate(causal_lm):
    """At temperature 0 the decoder and `generate` choose the same tokens, left padding included."""
    for place, response in zip([0, 1, 2], draw(causal_lm, [0, 1, 2], temperature=0.0), strict=True):
        ids = torch.from_numpy(PROMPTS[place])[None]
        whole = causal_lm.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=8,
            do_sample=False,
            eos_token_id=2,
            pad_token_id=0,
        )
        assert whole[0, ids.shape[1] :].tolist() == response.ids.tolist()


def test_sampled_rollout_does_not_depend_on_the_batch(causal_lm):
    """A row's draw belongs to its number: alone, in company and in another order it is the same."""
    together = draw(causal_lm, [0, 1, 2])
    assert [r.ids.tolist() for r in together[::-1]] == [r.ids.tolist() for r in draw(causal_lm, [2, 1, 0])]
    assert together[1].ids.tolist() == draw(causal_lm, [1])[0].ids.tolist()
    assert [r.ids.tolist() for r in together] != [r.ids.tolist() for r in draw(causal_lm, [0, 1, 2], seed=4)]


def test_one_prompt_is_answered_anew_under_another_number(causal_lm):
    """Equal prompts in one batch get draws of their own."""
    policy = Policy(causal_lm)
    drawn = respond(policy, [PROMPTS[0]] * 4, range(4), decoding(), device=CPU, all_done=bool, beat=still)
    assert 4 == len({tuple(response.ids) for response in drawn})


def test_rollout_ends_with_the_first_stop_token(causal_lm):
    """Nothing follows a stop token, and `stopped` tells it from a response cut off."""
    stops = frozenset(range(2, 12))
    for response in draw(causal_lm, [0, 1, 2], stop_ids=stops, max_tokens=30):
        held = [token in stops for token in response.ids.tolist()]
        assert held == [False] * (len(held) - 1) + [response.stopped]
    assert all(
        not r.stopped and len(r.ids) == 8 for r in draw(causal_lm, [0, 1, 2], stop_ids=frozenset({99}))
    )


def test_pick_follows_the_distribution():
    """Inverse of the cumulative distribution: shares of 100,000 even draws are the probabilities."""
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    uniforms = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    tokens = pick(logits.expand(100_000, 3), uniforms, 0.5)
    shares = torch.bincount(tokens, minlength=3) / 100_000
    torch.testing.assert_close(shares, (logits[0] / 0.5).softmax(-1), atol=1e-4, rtol=0)


def test_row_positions_skip_padding():
    """Positions count real tokens, on whichever side the padding is."""
    mask = torch.tensor([[True, True, False], [False, True, True]])
    assert [[0, 1, 1], [0, 0, 1]] == row_positions(mask).tolist()


def test_saved_model_loads_in_transformers_with_equal_logits(causal_lm, tmp_path):
    """Plain `from_pretrained` gives the logits of the model that was saved."""
    save_model(causal_lm, tmp_path, first=True)
    ids = torch.tensor([[5, 6, 7]])
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(causal_lm(ids).logits, again(ids).logits)


def test_saved_reward_model_loads_as_a_sequence_classifier(classifier, tmp_path):
    """One label, equal score."""
    save_model(classifier, tmp_path, first=True)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert (1, classifier(ids).logits.tolist()) == (again.config.num_labels, again(ids).logits.tolist())


def test_merged_adapters_give_the_adapted_logits(causal_lm, tmp_path):
    """A model saved with adapters merged computes what it computed with them beside its weights."""
    add_lora(causal_lm, LoraParams(rank=4))
    trainable = {name for name, parameter in causal_lm.named_parameters() if parameter.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)
    torch.manual_seed(0)
    for name, parameter in causal_lm.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    save_model(causal_lm, tmp_path, first=True)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        adapted = causal_lm(ids).logits
        torch.testing.assert_close(
            adapted, AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits, atol=1e-5, rtol=1e-5
        )


def test_lora_targets_that_match_nothing_are_refused(causal_lm):
    """The error names what there is."""
    with pytest.raises(StageError) as raised:
        add_lora(causal_lm, LoraParams(rank=4, targets=["query"]))
    assert "lora.targets ['query'] match no layer" == str(raised.value)
    assert "q_proj" in raised.value.hint


def test_reward_model_without_a_head_is_refused(causal_lm, tmp_path):
    """A causal language model has no score head: strict loading says so, unless a new one is asked for."""
    save_model(causal_lm, tmp_path, first=True)
    with pytest.raises(StageError, match=r"lacks weights: score\.weight"):
        load_reward_model(InputPath(tmp_path), dtype="fp32")
    torch.manual_seed(0)
    fresh = load_reward_model(InputPath(tmp_path), dtype="fp32", new_head=True).score.weight
    assert 0.1 < float(fresh.std()) * 17**0.5 < 2


def test_dropout_override_reaches_the_config(causal_lm, tmp_path):
    """`dropout` sets whichever fields the architecture has."""
    save_model(causal_lm, tmp_path, first=True)
    assert load_causal_lm(InputPath(tmp_path), dtype="fp32", dropout=0.25).config.attention_dropout == 0.25
    assert json.loads((tmp_path / "config.json").read_text())["attention_dropout"] == 0.0


def row(length, score, stopped=True) -> Row:
    """A response of ``length`` tokens, as far from the reference as 0.5 nats a token."""
    ones = np.ones(length, dtype=np.float32)
    return Row(PROMPTS[0], np.full(length, 5), stopped, -ones, -1.5 * ones, 0 * ones, ones, score)


def test_targets_hold_normalised_scores_and_penalties():
    """(score − mean) / deviation, less the penalty for a response cut off; KL taken off at every token."""
    rules = Rules(kl_coef=0.2, score_mean=1.0, score_deviation=2.0, missing_eos_penalty=0.5)
    targets = aim([row(2, 5.0), row(3, 3.0, stopped=False)], rules)
    assert [2.0, 0.5] == targets.scores.tolist()
    expected = torch.tensor([[-0.1, 1.9, 0.0], [-0.1, -0.1, 0.4]])
    torch.testing.assert_close(targets.rewards, expected)


def test_minibatches_hold_each_row_once_in_a_new_order_each_pass():
    """Every pass of every step is a permutation of its own."""
    first = minibatches(12, 4, seed=1, step=1, ppo_epoch=0)
    assert [4, 4, 4] == [len(part) for part in first]
    assert list(range(12)) == sorted(row for part in first for row in part)
    assert first != minibatches(12, 4, seed=1, step=1, ppo_epoch=1)
    assert first != minibatches(12, 4, seed=1, step=2, ppo_epoch=0)
    assert first == minibatches(12, 4, seed=1, step=1, ppo_epoch=0)


def test_passes_over_one_experience_are_shuffled_apart():
    """First halves of successive passes share half their rows: no stream is another one's, shifted."""
    halves = [set(minibatches(1024, 512, seed=1, step=3, ppo_epoch=number)[0]) for number in range(3)]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert 200 < len(halves[one] & halves[other]) < 312


def test_new_head_is_the_same_whatever_was_drawn_before(causal_lm, tmp_path):
    """The head comes from the seed alone, not from the state of torch's generator."""
    save_model(causal_lm, tmp_path, first=True)
    heads = []
    for before in (1, 2):
        torch.manual_seed(before)
        heads.append(load_reward_model(InputPath(tmp_path), dtype="fp32", new_head=True, seed=5).score.weight)
    assert torch.equal(*heads)


def test_scores_of_a_bf16_model_are_fp32(classifier, tmp_path):
    """The head computes in fp32: scores near 5 are not rounded to steps of 0.03."""
    save_model(classifier, tmp_path, first=True)
    model = load_reward_model(InputPath(tmp_path), dtype="bf16")
    batch = pad_pairs(PROMPTS, RESPONSES, 0, CPU)
    with torch.no_grad():
        scores = Scorer(model)(batch.ids, batch.mask)
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())


def test_critic_speaks_of_normalised_scores(classifier):
    """(score − mean) / deviation, at every token."""
    batch = pad_pairs(PROMPTS, RESPONSES, 0, CPU)
    with torch.no_grad():
        raw = Scorer(classifier)(batch.ids, batch.mask)
        torch.testing.assert_close((raw - 3.0) / 2.0, Scorer(classifier, 3.0, 2.0)(batch.ids, batch.mask))


def test_models_that_scale_their_logits_are_refused(causal_lm, tmp_path):
    """`Policy` applies the head alone, so a model that does more after it would be another model."""
    save_model(causal_lm, tmp_path, first=True)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"final_logit_softcapping": 30.0}))
    with pytest.raises(StageError, match=r"after the head \(final_logit_softcapping\)"):
        load_causal_lm(InputPath(tmp_path), dtype="fp32")
