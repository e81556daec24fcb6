from collections import Counter

import pytest
from rlhfc.stages.common.job import StageError
from rlhfc.stages.data_split.kind import DataSource
from rlhfc.stages.data_split.rows import Row, RowError, parse, usable_parts
from rlhfc.stages.data_split.splitting import Place, assign, held_out, shares, shuffled


def source(form="columns", **columns):
    """A data source with the given column map."""
    return DataSource(data={"path": "x"}, format=form, columns=columns)


def user(text):
    """One message of the user's."""
    return {"role": "user", "content": text}


def said(text):
    """One message of the assistant's."""
    return {"role": "assistant", "content": text}


TRANSCRIPT = source("transcript", chosen="chosen", rejected="rejected")
PAIR = source(prompt="q", chosen="a", rejected="b")


def test_columns_make_a_pair_whose_chosen_answer_is_wanted():
    """Without a response of its own, a pair's wanted response is the chosen one."""
    assert Row((user("hi"),), "good", "good", "bad") == parse(PAIR, {"q": "hi", "a": "good", "b": "bad"})


def test_columns_join_input_and_put_system_first():
    """Alpaca's input is a paragraph after the instruction; an empty one adds nothing."""
    columns = source(prompt="q", input="i", system="s", response="r")
    record = {"q": "Add.", "i": "1 2", "s": "Be brief.", "r": 3}
    system = {"role": "system", "content": "Be brief."}
    assert Row((system, user("Add.\n\n1 2")), "3") == parse(columns, record)
    assert Row((user("Add."),), "3") == parse(columns, {"q": "Add.", "i": "", "s": None, "r": 3})


def test_messages_end_in_the_wanted_response():
    """A conversation that ends with the assistant is a prompt and a response."""
    talk = [user("hi"), said("yes"), user("why"), said("so")]
    assert Row(tuple(talk[:3]), "so") == parse(source(messages="m"), {"m": talk})
    assert Row(tuple(talk[:3])) == parse(source(messages="m"), {"m": talk[:3]})


def test_conversational_pairs():
    """TRL's form: prompt, chosen and rejected are lists of messages."""
    record = {"q": [user("hi")], "a": [said("good")], "b": [said("bad")]}
    assert Row((user("hi"),), "good", "good", "bad") == parse(PAIR, record)


def test_transcripts_of_several_turns():
    """The prompt is what both transcripts share up to the last `Assistant:`."""
    start = "\n\nHuman: hi\n\nAssistant: yes?\n\nHuman: why\n\nAssistant:"
    row = parse(TRANSCRIPT, {"chosen": start + " so", "rejected": start + " no.\n\nReally."})
    assert Row((user("hi"), said("yes?"), user("why")), "so", "so", "no.\n\nReally.") == row


def test_transcript_turns_of_one_speaker_are_joined():
    """People leave the marks inside an answer; templates want turns to alternate."""
    start = "\n\nHuman: hi\n\nAssistant: a\n\nAssistant: b\n\nHuman: why\n\nAssistant: "
    row = parse(TRANSCRIPT, {"chosen": start + "so", "rejected": start + "no"})
    assert (user("hi"), said("a\n\nb"), user("why")) == row.messages


def test_transcript_with_a_prompt_column():
    """The prompt column ends with `Assistant:`, answers may repeat it or not."""
    prompt = "\n\nHuman: hi\n\nAssistant:"
    columns = source("transcript", prompt="q", chosen="a", rejected="b")
    row = parse(columns, {"q": prompt, "a": " yes", "b": prompt + " no"})
    assert Row((user("hi"),), "yes", "yes", "no") == row


def test_transcript_answers_may_begin_with_the_speaker():
    """As in yitingxie/rlhf-reward-datasets: the prompt ends with the question, answers with the speaker."""
    columns = source("transcript", prompt="q", chosen="a", rejected="b")
    row = parse(columns, {"q": "\n\nHuman: hi\n\n", "a": "Assistant: yes", "b": "Assistant: no"})
    assert ((user("hi"),), "yes", "no") == (row.messages, row.chosen, row.rejected)


def test_transcript_as_demonstration():
    """A response column holds the whole dialogue."""
    row = parse(source("transcript", response="r"), {"r": "\n\nHuman: hi\n\nAssistant: yes"})
    assert Row((user("hi"),), "yes") == row


@pytest.mark.parametrize(
    ("columns", "record", "reason"),
    [
        (PAIR, {"q": "", "a": "x", "b": "y"}, "empty"),
        (PAIR, {"q": None, "a": "x", "b": "y"}, "empty"),
        (PAIR, {"q": "hi", "a": "  ", "b": "y"}, "empty"),
        (PAIR, {"q": "hi", "a": [], "b": "y"}, "empty"),
        (PAIR, {"q": "hi", "a": "x", "b": " x"}, "identical"),
        (PAIR, {"q": "hi", "a": True, "b": "y"}, "not_text"),
        (PAIR, {"q": ["hi"], "a": "x", "b": "y"}, "not_text"),
        (source(messages="m"), {"m": "hi"}, "not_text"),
        (source(messages="m"), {"m": [said("only an answer")]}, "empty"),
        (TRANSCRIPT, {"chosen": "Human hi", "rejected": "Human hi"}, "not_a_transcript"),
        (TRANSCRIPT, {"chosen": "\n\nHuman: hi", "rejected": "\n\nHuman: hi"}, "not_a_transcript"),
        (
            TRANSCRIPT,
            {"chosen": "\n\nAssistant: a\n\nAssistant: b", "rejected": "\n\nAssistant: a\n\nAssistant: c"},
            "not_a_transcript",
        ),
        (
            TRANSCRIPT,
            {"chosen": "\n\nHuman: hi\n\nAssistant: a", "rejected": "\n\nHuman: ho\n\nAssistant: b"},
            "prompt_differs",
        ),
        (
            TRANSCRIPT,
            {"chosen": "\n\nHuman: hi\n\nAssistant:", "rejected": "\n\nHuman: hi\n\nAssistant: b"},
            "empty",
        ),
    ],
)
def test_rows_that_are_no_use_say_why(columns, record, reason):
    """Every dropped row is counted under one reason."""
    with pytest.raises(RowError) as caught:
        parse(columns, record)
    assert reason == caught.value.reason


def test_what_a_source_can_feed():
    """Pairs feed all parts, answers two, prompts alone one."""
    assert ("sft", "reward", "prompts") == usable_parts(PAIR, "sources.0")
    assert ("sft", "reward", "prompts") == usable_parts(TRANSCRIPT, "sources.0")
    assert ("sft", "prompts") == usable_parts(source(prompt="q", response="r"), "sources.0")
    assert ("sft", "prompts") == usable_parts(source(messages="m"), "sources.0")
    assert ("prompts",) == usable_parts(source(prompt="q"), "sources.0")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (source(prompt="q", chosen="a"), "`sources.1` maps only one of `chosen` and `rejected`"),
        (source(chosen="a", rejected="b"), "`sources.1` maps no prompt"),
        (source(), "`sources.1` maps no prompt"),
    ],
)
def test_a_column_map_that_makes_no_row(columns, message):
    """The message names the source by its address."""
    with pytest.raises(StageError) as caught:
        usable_parts(columns, "sources.1")
    assert message == str(caught.value)


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
    assert [4, 3, 1, 0, 2] == shuffled(range(5), 1234, "source 0")
    orders = {tuple(shuffled(range(9), seed, why)) for seed in (1, 2) for why in ("a", "b")}
    assert 4 == len(orders)


def test_a_prompt_keeps_its_place_across_sources():
    """Prompts that an earlier source has placed stay there, and do not count for the shares of a later."""
    taken = {}
    weights = {"sft": 2, "reward": 4, "prompts": 4}
    assign([*range(100), *range(50)], weights, eval_fraction=0.1, seed=1, purpose="a", taken=taken)
    first = dict(taken)
    assert {"sft": 20, "reward": 40, "prompts": 40} == Counter(place.part for place in taken.values())
    assert 10 == sum(place.side == "eval" for place in taken.values())
    assign(range(90, 110), {"sft": 1, "prompts": 1}, eval_fraction=0.1, seed=1, purpose="b", taken=taken)
    assert first == {prompt: taken[prompt] for prompt in first}
    assert {
        Place("sft", "train"),
        Place("sft", "eval"),
        Place("prompts", "train"),
        Place("prompts", "eval"),
    } == {taken[prompt] for prompt in range(100, 110)}


def test_rows_that_no_part_wants_get_no_place():
    """All weights zero for what a source can feed: nothing is assigned."""
    taken = {}
    assign(range(5), {"sft": 0, "prompts": 0}, eval_fraction=0.1, seed=1, purpose="a", taken=taken)
    assert {} == taken
