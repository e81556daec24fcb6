"""What becomes of records: faults, duplicates, weights, overlaps; and what the report says of it."""

import json
from collections import Counter

import numpy as np
import pytest
from data_helpers import chatml, pairs, prompts_of, split_job, texts, write_rows
from rlhfc.stages.common.job import StageError
from rlhfc.stages.common.tokenfiles import TokenWriter
from rlhfc.stages.data_split import tokenising
from rlhfc.stages.data_split.overlap import Watched, words_of

PAIR = {"columns": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}}
DEMONSTRATION = {"columns": {"prompt": "prompt", "response": "response"}}
SPOKEN = "one two three four five six seven eight nine ten eleven twelve thirteen"


def report(job):
    """The data report."""
    return json.loads((job.outputs["report"] / "report.json").read_text())


def test_records_with_faults_are_told_by_number(tmp_path, folder):
    """Empty, one side missing, identical, far too long: each is counted, and the first are named, from 1."""
    rows = pairs(40)
    rows[3]["prompt"] = " \n"
    rows[7]["rejected"] = None
    rows[11]["rejected"] = rows[11]["chosen"] + " "
    rows[12]["chosen"] = "the cat " * 100_000
    rows[13]["prompt"] = "the cat " * 100_000
    rows[30:37] = [rows[29]] * 7
    data = write_rows(tmp_path / "pairs.jsonl", rows)
    job = split_job(tmp_path / "w", folder, [(data, PAIR)], duplicates="drop")
    source = report(job)["sources"]["sources.0"]
    found = {reason: (told["records"], told["first"]) for reason, told in source["dropped"].items()}
    duplicates = found.pop("duplicate")
    assert {
        "empty": (2, [{"side": "train", "record": 4}, {"side": "train", "record": 8}]),
        "identical": (1, [{"side": "train", "record": 12}]),
        "too_long": (1, [{"side": "train", "record": 13}]),
        "prompt_too_long": (1, [{"side": "train", "record": 14}]),
    } == found
    assert (7, 5) == (duplicates[0], len(duplicates[1]))
    assert {*range(30, 38)} > {told["record"] for told in duplicates[1]}
    splits = report(job)["splits"]
    assert (40, 28) == (source["read"], sum(split["rows"] for split in splits.values()))


@pytest.mark.parametrize(
    "text",
    ["tab\tand \x00 \x1b[31m \x7f", "\u202eright to left\u202c", "猫は座った и кот сел", "🐈‍⬛ e\u0301"],
)
def test_any_characters_are_text(tmp_path, folder, tokenizer, text):
    """Control characters and mixed scripts come back from the tokens as they went in."""
    rows = [row | {"chosen": f"{text} {n}"} for n, row in enumerate(pairs(20))]
    data = write_rows(tmp_path / "pairs.jsonl", rows)
    job = split_job(tmp_path / "w", folder, [(data, PAIR)], template="plain")
    assert {f"{text} {n}" for n in range(20)} >= {row[1] for row in texts(job, "reward", "train", tokenizer)}
    assert {} == report(job)["sources"]["sources.0"]["dropped"]


@pytest.mark.parametrize(
    ("wrong", "fault"), [(7, None), (True, "not_text"), ({"a": 1}, "not_text"), (["a"], "not_text")]
)
def test_column_of_several_types(tmp_path, folder, wrong, fault):
    """A number among texts is a text; what is none is told with its record, and takes no other with it."""
    data = write_rows(tmp_path / "pairs.jsonl", [*pairs(20), pairs(1)[0] | {"prompt": wrong}])
    job = split_job(tmp_path / "w", folder, [(data, PAIR)])
    told = report(job)["sources"]["sources.0"]["dropped"]
    assert (
        {} if fault is None else {fault: {"records": 1, "first": [{"side": "train", "record": 21}]}}
    ) == told


def test_conversation_that_the_template_refuses(tmp_path):
    """One such row is dropped and counted; it does not end the stage, nor take others with it."""
    tokenizer = chatml()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{{ m['content'] }}{% endfor %}<|im_end|>"
    )
    tokenizer.save_pretrained(tmp_path / "t")
    talks = [
        [{"role": "user", "content": f"the cat {n}"}, {"role": "assistant", "content": "no"}]
        for n in range(30)
    ]
    talks[5] = [talks[5][0], *talks[5]]
    data = write_rows(tmp_path / "talks.jsonl", [{"messages": talk} for talk in talks])
    job = split_job(tmp_path / "w", tmp_path / "t", [(data, {})], parts=[1, 0, 0])
    told = report(job)["sources"]["sources.0"]["dropped"]
    assert {"template_refuses": {"records": 1, "first": [{"side": "train", "record": 6}]}} == told
    assert 29 == sum(split["rows"] for split in report(job)["splits"].values())


def test_duplicates_within_and_across_sources(tmp_path, folder, tokenizer):
    """Rows that differ in case, spaces or compatible characters are one; `keep` counts and keeps them."""
    rows = pairs(30)
    again = [{name: f" {text.upper()}  " for name, text in row.items()} for row in rows[:10]]
    wide = [{name: text.replace("cat", "ｃａｔ") for name, text in row.items()} for row in rows[10:15]]
    sources = [
        (write_rows(tmp_path / "a.jsonl", rows), PAIR),
        (write_rows(tmp_path / "b.jsonl", [*again, *wide, *pairs(10, start=50)]), PAIR),
    ]
    dropped, kept = (
        split_job(tmp_path / rule, folder, sources, duplicates=rule, template="plain")
        for rule in ("drop", "keep")
    )
    assert {"sources.0": {}, "sources.1": 15} == {
        address: source["dropped"].get("duplicate", {}).get("records", {})
        for address, source in report(dropped)["sources"].items()
    }
    assert [[0, 15]] * 2 == [
        [source["repeated"] for source in report(job)["sources"].values()] for job in (dropped, kept)
    ]
    assert (40, 55) == tuple(sum(map(len, prompts_of(job, tokenizer).values())) for job in (dropped, kept))


def test_prompt_that_is_asked_twice_is_rolled_out_once(tmp_path, folder, tokenizer):
    """Two pairs with one prompt are two for the reward model, and one prompt for PPO."""
    rows = [row | {"rejected": f"no {n}"} for row in pairs(40) for n in range(2)]
    data = write_rows(tmp_path / "pairs.jsonl", rows)
    job = split_job(tmp_path / "w", folder, [(data, PAIR)], template="plain", duplicates="drop")
    found = prompts_of(job, tokenizer)
    assert {"reward train": {2}, "prompts train": {1}, "heldout eval": {1}} == {
        name: set(Counter(found[name]).values()) for name in ("reward train", "prompts train", "heldout eval")
    }


def test_weights_and_parts_of_a_source(tmp_path, folder, tokenizer):
    """A source for sft only, whose training rows come three times; held-out rows come once."""
    demos = [{"prompt": f"what is {n}", "response": "a cat"} for n in range(50)]
    demos += [{"prompt": f"what is {n}", "response": "the cat " * 999} for n in range(50, 53)]
    sources = [
        (write_rows(tmp_path / "a.jsonl", pairs(50)), PAIR),
        (write_rows(tmp_path / "b.jsonl", demos), DEMONSTRATION | {"parts": [1, 0, 0], "weight": 3.0}),
    ]
    job = split_job(tmp_path / "w", folder, sources, template="plain")
    found = prompts_of(job, tokenizer)
    whole = Counter(prompt for prompt in found["sft train"] if prompt.startswith("what"))
    held = sum(prompt.startswith("what") for prompt in found["sft eval"])
    assert (50 - held, {3}) == (len(whole), set(whole.values()))
    assert held in (4, 5)
    assert not any(p.startswith("what") for name in found if not name.startswith("sft") for p in found[name])
    assert 3 == report(job)["sources"]["sources.1"]["dropped"]["too_long"]["records"]
    assert {"sources.0": 9, "sources.1": 3 * len(whole)} == report(job)["splits"]["sft_train"]["by_source"]


def test_overlap_with_prompts_of_evaluations(tmp_path, folder, tokenizer):
    """Thirteen words in a row, or a short prompt whole, in any message or answer of a training row."""
    rows = pairs(40)
    for row in rows[:4]:
        row["chosen"] = f"well: {SPOKEN.upper()}, so"
    rows[4]["prompt"] = "What is a cat?"
    rows[5]["rejected"] = SPOKEN.removesuffix(" thirteen")
    asked = [{"turns": ["hi there", SPOKEN]}, {"turns": ["what is a cat"]}, {"turns": ["x"]}]
    benchmark = (write_rows(tmp_path / "bench.jsonl", asked), {"column": "turns"})
    source = (write_rows(tmp_path / "pairs.jsonl", rows), PAIR)
    told, gone = (
        split_job(
            tmp_path / str(drop),
            folder,
            [source],
            parts=[0, 1, 0],
            template="plain",
            benchmarks=[benchmark],
            overlap={"drop": drop},
        )
        for drop in (False, True)
    )
    training = texts(told, "reward", "train", tokenizer)
    seen = [chosen.startswith("well") for _, chosen, _ in training]
    exact = [prompt == "What is a cat?" for prompt, _, _ in training]
    assert sum(seen) >= 3
    assert 1 == sum(exact)
    assert {"prompts": 3, "reward_train": 2} == {
        "prompts": report(told)["overlap"]["overlap.against.0"]["prompts"],
        "reward_train": report(told)["overlap"]["overlap.against.0"]["seen"]["reward_train"],
    }
    assert sum(seen) + 1 == report(told)["splits"]["reward_train"]["overlapping_rows"]
    assert sum(seen) + 1 == report(gone)["sources"]["sources.0"]["dropped"]["overlap"]["records"]
    assert len(training) - sum(seen) - 1 == len(texts(gone, "reward", "train", tokenizer))


def test_held_out_prompts_are_watched(tmp_path, folder):
    """Without any setting the report says how many held-out prompts training has seen in part."""
    rows = [{"prompt": f"{SPOKEN} {n}", "chosen": "yes", "rejected": "no"} for n in range(40)]
    job = split_job(tmp_path / "w", folder, [(write_rows(tmp_path / "p.jsonl", rows), PAIR)])
    heldout, splits = report(job)["overlap"]["heldout"], report(job)["splits"]
    assert heldout["prompts"] == heldout["seen"]["sft_train"] == splits["heldout_eval"]["rows"] > 0
    assert splits["reward_train"]["overlapping_rows"] == splits["reward_train"]["rows"]


def test_benchmark_that_is_none(tmp_path, folder):
    """The message names column, record and file."""
    data = write_rows(tmp_path / "pairs.jsonl", pairs(40))
    asked = write_rows(tmp_path / "bench.jsonl", [{"q": [1]}])
    with pytest.raises(StageError, match=r"`q` of record 1 of `.*bench.jsonl` is no prompt"):
        split_job(tmp_path / "w", folder, [(data, PAIR)], benchmarks=[(asked, {"column": "q"})])
    with pytest.raises(StageError, match=r"has no column `prompt` for `column`; it has q"):
        split_job(tmp_path / "v", folder, [(data, PAIR)], benchmarks=[(asked, {"column": "prompt"})])


def test_words_and_runs():
    """Case and punctuation do not count; Chinese and Japanese characters are words."""
    assert ["it", "s", "a", "cat", "猫", "は"] == words_of("It's a CAT! 猫は")
    watched = Watched(3)
    watched.add("a", ["one two three four"])
    watched.add("b", ["Hi there"])
    assert [{0}, {0}, set(), {1}, set()] == [
        set(watched.seen([text]))
        for text in (
            "zero one, two three",
            "two three four five",
            "one two four",
            "hi there!",
            "hi there you",
        )
    ]


def test_sources_that_share_prompts(tmp_path, folder):
    """Upstream's sets overlap; the report says by how much."""
    sources = [
        (write_rows(tmp_path / "a.jsonl", pairs(30)), PAIR),
        (write_rows(tmp_path / "b.jsonl", [row | {"chosen": "other"} for row in pairs(30, start=20)]), PAIR),
    ]
    job = split_job(tmp_path / "w", folder, sources)
    assert [{"sources": ["sources.0", "sources.1"], "prompts": 10}] == report(job)["prompts_in_two_sources"]


def test_few_chunks_are_in_memory(tmp_path, monkeypatch):
    """With processes as without, chunks are made as they are needed: the next when one has been taken."""
    chatml().save_pretrained(tmp_path)
    monkeypatch.setattr(tokenising, "AHEAD", 1)
    made = 0

    def chunks():
        nonlocal made
        for _ in range(20):
            made += 1
            yield []

    rules = tokenising.Rules(("response",), 9, 9, (), control_in_prompts=True)
    for workers, ahead in ((1, 1), (2, 3)):
        made = 0
        with tokenising.Tokeniser(tmp_path, workers, Watched(13)) as tokeniser:
            outcomes = tokeniser.run(chunks(), rules)
            next(outcomes)
            assert ahead == made
            assert 19 == sum(1 for _ in outcomes)


def test_token_file_grows_on_disk(tmp_path):
    """Written row by row, the file is what numpy would have written at once."""
    rows = [(np.arange(n, dtype=np.uint32), np.arange(2 * n, dtype=np.uint32)) for n in range(50)]
    with TokenWriter(tmp_path, "train") as writer:
        for row in rows:
            writer.add(row)
        assert [[n, 2 * n] for n in range(50)] == writer.lengths(2).tolist()
    np.save(tmp_path / "whole.npy", np.concatenate([segment for row in rows for segment in row]))
    assert (tmp_path / "whole.npy").read_bytes() == (tmp_path / "train.tokens.npy").read_bytes()
