import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"


def load(name):
    """A script of the quickstart as a module."""
    spec = importlib.util.spec_from_file_location(f"quickstart_{name}", QUICKSTART / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def judge():
    """The judge, loaded as `evaluate` loads it: one file alone."""
    return load("judge")


def rows(name):
    """Rows of a data file."""
    text = (QUICKSTART / "data" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


LETTER = "Hello, this is Ada. My new kettle drips water on my table. Please answer soon."
GOOD = "Dear Ada, I am sorry that your kettle leaks. A new seal is on its way to you. Kind regards, Bea"


@pytest.mark.parametrize(
    ("response", "score"),
    [
        (GOOD, 1.0),
        (GOOD.replace("Dear Ada", "Hello Ada").replace("I am sorry that your", "We apologise that the"), 1.0),
        (GOOD.replace("Ada", "Ben"), 0.85),
        (GOOD.replace("Dear Ada, ", ""), 0.85),
        (GOOD.replace("Dear Ada,", "Listen,"), 0.85),
        (GOOD.replace("kettle", "lamp"), 0.55),  # another product, and so a sentence of no use
        (GOOD.replace("I am sorry that your kettle leaks.", "So the kettle leaks."), 0.8),
        (GOOD.replace("I am sorry that your", "How nice that the"), 0.7),  # of no use
        (GOOD.replace("A new seal is on its way to you.", "We will mail you the manual."), 0.7),
        (GOOD.replace("A new seal is on its way to you.", "There is nothing we can do."), 0.6),
        (GOOD.replace(" Kind regards, Bea", ""), 0.8),
        (GOOD.replace(" Kind regards, Bea", " That is your own fault."), 0.5),
        (GOOD + " We do not care.", 0.4),  # rude, and no closing at the end; the closing is of no use there
        (GOOD.replace(" Kind", " We will mail you the manual. Kind"), 0.7),  # two remedies
        (GOOD.replace(" Kind", " A new seal is on its way to you. Kind"), 0.5),  # said twice
        (GOOD.replace(" Kind regards, Bea", " Kind regards, Bea" * 2), 0.9),
        ("Kind regards, Bea", 0.05),
        ("Dear Ada, Kind regards, Bea", 0.2),
        ("Dear Ada, " + "I am sorry that your kettle leaks. " * 8 + "Kind regards, Bea", 0.0),
        ("sorry kettle seal regards Ada Bea thank you kettle sorry seal regards Ada", 0.05),
        ("", 0.0),
    ],
)
def test_judge_scores(judge, response, score):
    """Each part earns its points, each fault costs its own, and no shortcut is worth much."""
    assert pytest.approx(score) == judge.score(LETTER, response)


def test_judge_reads_prompts_with_their_chat_frame(judge):
    """What `evaluate` decodes may keep the template's words around the letter."""
    assert 1.0 == judge.score(f"<|user|>{LETTER}<|assistant|>", GOOD + "\n")


def test_judge_refuses_other_prompts(judge):
    """A score for a letter of another world would mean nothing."""
    with pytest.raises(ValueError, match="not a letter of this world"):
        judge.score("What is the capital of France?", GOOD)


def test_every_letter_is_understood_and_its_best_answer_is_perfect(judge):
    """All products with all problems and phrases: the rule can be met."""
    data = load("make_data")
    for product in judge.PRODUCTS:
        for problem, (phrases, clause, remedies) in judge.PROBLEMS.items():
            tones = judge.THANKS if problem == "praise" else judge.REGRETS
            for number, said in enumerate(phrases):
                form = data.LETTERS[number % len(data.LETTERS)]
                letter = form.format(name="Zoe", product=product, said=said)
                assert ("Zoe", product, problem) == judge.understand(letter)
                tone = tones[number % 2].format(product=product, clause=clause)
                answer = f"Hello Zoe, {tone} {remedies[number % 2]} With best wishes, Carl"
                assert pytest.approx(1.0) == judge.score(letter, answer)


def test_data_files_are_what_the_script_writes():
    """`make_data.py --check` finds them fresh."""
    done = subprocess.run([sys.executable, QUICKSTART / "make_data.py", "--check"], check=False)
    assert 0 == done.returncode


def test_check_notices_a_change(tmp_path):
    """One byte more in a data file, and `--check` says which is stale."""
    for name in ("make_data.py", "judge.py", "data/demonstrations.jsonl", "data/preferences.jsonl"):
        copy = tmp_path / name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes((QUICKSTART / name).read_bytes())
    with (tmp_path / "data" / "preferences.jsonl").open("a") as stream:
        stream.write("\n")
    done = subprocess.run(
        [sys.executable, tmp_path / "make_data.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (1, f"stale: {tmp_path / 'data' / 'preferences.jsonl'}\n") == (done.returncode, done.stderr)


def test_demonstrations_are_of_mixed_quality(judge):
    """There is something to learn: most demonstrations are neither perfect nor worthless."""
    scores = [judge.score(row["prompt"], row["response"]) for row in rows("demonstrations")]
    assert 0.35 < sum(scores) / len(scores) < 0.55
    assert 0.1 < sum(score > 0.99 for score in scores) / len(scores) < 0.3


def test_preferences_follow_the_rule_but_for_the_noise(judge):
    """About one pair in twenty has its labels swapped, and prompts are distinct."""
    pairs = rows("preferences")
    right = sum(
        judge.score(row["prompt"], row["chosen"]) > judge.score(row["prompt"], row["rejected"])
        for row in pairs
    )
    assert 0.93 < right / len(pairs) < 0.97
    assert len(pairs) == len({row["prompt"] for row in pairs})


def test_shipped_sizes():
    """Data under 1 MB, weights at most 4 MB."""
    assert sum(path.stat().st_size for path in (QUICKSTART / "data").iterdir()) < 1_000_000
    assert (QUICKSTART / "model" / "model.safetensors").stat().st_size <= 4_000_000
