import pytest
from rlhfc.stages.common.job import StageError
from rlhfc.stages.data_split.kind import HUB_SETS, DataSource
from rlhfc.stages.data_split.reading import format_of
from rlhfc.stages.data_split.rows import Row, RowError
from rlhfc.stages.data_split.upstream import FORMATS


def source(form="columns", **columns):
    """A data source with the given column map."""
    return DataSource(data={"path": "x"}, format=form, columns=columns)


def user(text):
    """One message of the user's."""
    return {"role": "user", "content": text}


def said(text):
    """One message of the assistant's."""
    return {"role": "assistant", "content": text}


def parse(described, record):
    """The row that a record holds."""
    return format_of(described, list(record), "sources.0").parse(record)


def feeds(described, *found):
    """The parts that rows of a source can feed."""
    return format_of(described, found, "sources.0").feeds


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
    assert ("sft", "reward", "prompts") == feeds(PAIR)
    assert ("sft", "reward", "prompts") == feeds(TRANSCRIPT)
    assert ("sft", "prompts") == feeds(source(prompt="q", response="r"))
    assert ("sft", "prompts") == feeds(source(messages="m"))
    assert ("prompts",) == feeds(source(prompt="q"))


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
        format_of(columns, ["q"], "sources.1")
    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("record", "row"),
    [
        ({"instruction": "Add.", "input": "1 2", "output": "3"}, Row((user("Add.\n\n1 2"),), "3")),
        (
            {
                "instruction": "Go on",
                "input": "",
                "output": "so",
                "system": "Be brief.",
                "history": [["a", "b"]],
            },
            Row(({"role": "system", "content": "Be brief."}, user("a"), said("b"), user("Go on")), "so"),
        ),
        ({"instruction": "hi", "chosen": "yes", "rejected": "no"}, Row((user("hi"),), "yes", "yes", "no")),
        (
            {"instruction": "hi", "output": "hm", "chosen": "yes", "rejected": "no"},
            Row((user("hi"),), "hm", "yes", "no"),
        ),
        (
            {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}]},
            Row((user("hi"),), "yes"),
        ),
        (
            {
                "system": "Be brief.",
                "conversations": [{"from": "human", "value": "hi"}],
                "chosen": {"from": "gpt", "value": "yes"},
                "rejected": {"from": "gpt", "value": "no"},
            },
            Row(({"role": "system", "content": "Be brief."}, user("hi")), "yes", "yes", "no"),
        ),
        (
            {"messages": [user("hi"), said("a"), user("why"), said("so")]},
            Row((user("hi"), said("a"), user("why")), "so"),
        ),
        ({"prompt": "hi", "completion": "yes"}, Row((user("hi"),), "yes")),
        ({"prompt": [user("hi")], "completion": [said("yes")]}, Row((user("hi"),), "yes")),
        ({"prompt": "hi", "chosen": "yes", "rejected": "no"}, Row((user("hi"),), "yes", "yes", "no")),
        (
            {"prompt": [user("hi")], "chosen": [said("yes")], "rejected": [said("no")]},
            Row((user("hi"),), "yes", "yes", "no"),
        ),
        (
            {"chosen": [user("hi"), said("yes")], "rejected": [user("hi"), said("no")]},
            Row((user("hi"),), "yes", "yes", "no"),
        ),
        (
            {"chosen": "\n\nHuman: hi\n\nAssistant: yes", "rejected": "\n\nHuman: hi\n\nAssistant: no"},
            Row((user("hi"),), "yes", "yes", "no"),
        ),
        ({"prompt": "hi"}, Row((user("hi"),))),
    ],
)
def test_formats_that_the_names_of_columns_tell(record, row):
    """Alpaca, ShareGPT, and TRL's forms, with further columns that nobody asked for."""
    assert row == parse(source("auto"), record | {"id": 7})


def test_columns_that_tell_nothing():
    """The message names the columns and the ways out."""
    with pytest.raises(StageError) as caught:
        parse(source("auto"), {"a": 1, "b": 2})
    assert "`sources.0`: nothing tells what its columns hold; it has a, b" == str(caught.value)
    with pytest.raises(StageError, match="nothing tells how it is `alpaca`; it has prompt"):
        parse(source("alpaca"), {"prompt": "hi"})


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"messages": [{"role": "narrator", "content": "hi"}, said("yes")]}, "unknown_role"),
        ({"messages": ["hi"]}, "not_text"),
        ({"chosen": [user("hi"), said("yes")], "rejected": [user("ho"), said("no")]}, "prompt_differs"),
        ({"chosen": [user("hi")], "rejected": [user("hi")]}, "empty"),
        ({"instruction": "hi", "output": "yes", "history": [["a"]]}, "not_text"),
        ({"conversations": []}, "empty"),
    ],
)
def test_records_that_fit_no_form(record, reason):
    """Every dropped record is counted under one reason."""
    with pytest.raises(RowError) as caught:
        parse(source("auto"), record)
    assert reason == caught.value.reason


HI = "\n\nHuman: hi\n\nAssistant:"
PASSAGES = {"query": "hi", "positive_passages": [{"text": "yes"}], "negative_passages": [{"text": "no"}]}
UPSTREAM = {
    "Dahoas/rm-static": {"prompt": HI, "response": " yes", "chosen": " yes", "rejected": " no"},
    "Dahoas/full-hh-rlhf": {"prompt": HI, "chosen": " yes", "rejected": " no"},
    "Dahoas/synthetic-instruct-gptj-pairwise": {"prompt": "hi", "chosen": "yes", "rejected": "no"},
    "yitingxie/rlhf-reward-datasets": {
        "prompt": "\n\nHuman: hi\n\n",
        "chosen": "Assistant: yes",
        "rejected": "Assistant: no",
    },
    "openai/webgpt_comparisons": {
        "question": {"full_text": "hi", "id": "1"},
        "answer_0": "no",
        "score_0": -0.5,
        "answer_1": "yes [1][2, 3]",
        "score_1": 0.5,
    },
    "stanfordnlp/SHP": {"history": "hi", "human_ref_A": "no", "human_ref_B": "yes", "labels": 0},
    "pvduy/sharegpt_alpaca_oa_vicuna_format": {"prompt": "USER: hi\nASSISTANT:", "label": "yes"},
    "wangrui6/Zhihu-KOL": {"INSTRUCTION": "hi", "RESPONSE": "yes"},
    "Cohere/miracl-zh-queries-22-12": PASSAGES,
    "Hello-SimpleAI/HC3-Chinese": {"question": "hi", "human_answers": ["yes", "well"]},
    "mkqa-Chinese": {
        "queries": {"zh_cn": "hi", "ja": "x"},
        "answers": {"zh_cn": [{"text": "yes"}], "ja": []},
    },
    "mkqa-Japanese": {"queries": {"ja": "hi"}, "answers": {"ja": [{"text": "yes"}]}},
    "Cohere/miracl-ja-queries-22-12": PASSAGES,
    "lmqg/qg_jaquad": {"question": "hi", "sentence": "yes"},
    "lmqg/qag_jaquad": {"questions": ["hi", "ho"], "paragraph": "yes"},
    "local/jsonfile": {"prompt": "hi", "chosen": "yes", "rejected": "no"},
}
DEMONSTRATIONS = {
    "pvduy/sharegpt_alpaca_oa_vicuna_format",
    "wangrui6/Zhihu-KOL",
    "Hello-SimpleAI/HC3-Chinese",
    "mkqa-Chinese",
    "mkqa-Japanese",
    "lmqg/qg_jaquad",
    "lmqg/qag_jaquad",
}


@pytest.mark.parametrize("name", HUB_SETS)
def test_sets_that_upstream_knows(name):
    """A record of the shape that each has, nested or scored, becomes a message and its answers."""
    row = parse(source(name), UPSTREAM[name])
    pair = (None, None) if name in DEMONSTRATIONS else ("yes", "no")
    assert ((user("hi"),), "yes", *pair) == (row.messages, row.response, row.chosen, row.rejected)
    assert (("sft", "prompts") if name in DEMONSTRATIONS else ("sft", "reward", "prompts")) == feeds(
        source(name)
    )
    assert set(FORMATS[name].needs) <= set(UPSTREAM[name])


def test_every_set_has_a_format():
    """What a spec may name can be read."""
    assert set(HUB_SETS) == set(FORMATS) == set(UPSTREAM)


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("openai/webgpt_comparisons", {"score_1": -0.5}, "tie"),
        ("openai/webgpt_comparisons", {"score_1": None}, "not_text"),
        ("stanfordnlp/SHP", {"labels": None}, "not_text"),
        ("Hello-SimpleAI/HC3-Chinese", {"human_answers": []}, "empty"),
        ("mkqa-Chinese", {"answers": {"zh_cn": [{"text": None}]}}, "empty"),
        ("pvduy/sharegpt_alpaca_oa_vicuna_format", {"label": ""}, "empty"),
        ("wangrui6/Zhihu-KOL", {"RESPONSE": None}, "empty"),
        ("lmqg/qag_jaquad", {"questions": []}, "empty"),
        ("mkqa-Japanese", {"queries": None}, "not_text"),
    ],
)
def test_records_of_these_sets_that_are_no_use(name, change, expected):
    """Fields that are missing in some records of the real sets are a reason, not a traceback."""
    with pytest.raises(RowError) as caught:
        parse(source(name), UPSTREAM[name] | change)
    assert expected == caught.value.reason


def test_rules_of_these_sets_in_special_cases():
    """The other answer wins; brackets that are no citation stay; no negative passage; dialogues."""
    webgpt = UPSTREAM["openai/webgpt_comparisons"] | {
        "score_0": 1.0,
        "answer_0": "in 1999 (a year) [sic] [12]",
    }
    assert "in 1999 (a year) [sic]" == parse(source("openai/webgpt_comparisons"), webgpt).chosen
    shp = parse(source("stanfordnlp/SHP"), UPSTREAM["stanfordnlp/SHP"] | {"labels": 1})
    assert ("no", "yes") == (shp.chosen, shp.rejected)
    lone = parse(source("Cohere/miracl-zh-queries-22-12"), PASSAGES | {"negative_passages": []})
    assert Row((user("hi"),), "yes") == lone
    talk = parse(source("local/jsonfile"), {"prompt": f" {HI.strip()}", "chosen": " yes", "rejected": " no"})
    assert Row((user("hi"),), "yes", "yes", "no") == talk
    vicuna = {"prompt": "USER: hi ASSISTANT: yes? USER: why ASSISTANT:", "label": "so"}
    row = parse(source("pvduy/sharegpt_alpaca_oa_vicuna_format"), vicuna)
    assert (user("hi"), said("yes?"), user("why")) == row.messages


def test_hub_set_implies_its_format():
    """`data: {hub: …}` of a known set is all that is needed; what is said goes before what is implied."""
    known = DataSource(data={"hub": "stanfordnlp/SHP"})
    assert ("stanfordnlp/SHP", "validation") == (known.format, known.eval_split)
    assert known == DataSource(data={"hub": "stanfordnlp/SHP"}, format="auto")
    assert "test" == DataSource(data={"hub": "stanfordnlp/SHP"}, eval_split="test").eval_split
    mapped = DataSource(data={"hub": "stanfordnlp/SHP"}, columns={"prompt": "history"})
    assert ("auto", None) == (mapped.format, mapped.eval_split)
    assert "auto" == DataSource(data={"hub": "someone/else"}).format
    copy = DataSource(data={"path": "copy.jsonl"}, format="stanfordnlp/SHP")
    file = DataSource(data={"hub": "stanfordnlp/SHP", "file": "one.jsonl"})
    assert (None, "stanfordnlp/SHP", None) == (copy.eval_split, file.format, file.eval_split)
    assert "test" == DataSource(data={"path": "folder"}, format="local/jsonfile").eval_split
    again = DataSource.model_validate(known.model_dump() | {"data": {"path": "copy"}})
    assert ("stanfordnlp/SHP", "validation") == (again.format, again.eval_split)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "alpaca", "columns": {"prompt": "q"}}, "both say which column holds what"),
        ({"parts": [0, 0, 0]}, "none below zero and at least one above"),
        ({"format": []}, "Input should be 'auto', 'columns'"),
        ({"data": {"hub": []}}, "Input should be a valid string"),
        ({"data": {"hub": "stanfordnlp/SHP", "file": []}}, "Input should be a valid string"),
        ({"data": 7}, "Input should be"),
    ],
)
def test_mistakes_in_a_source(fields, message):
    """A spec says things once, and in the types that they have."""
    with pytest.raises(ValueError, match=message):
        DataSource(**{"data": {"path": "x"}} | fields)
