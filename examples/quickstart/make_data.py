"""Writes ``data/demonstrations.jsonl`` and ``data/preferences.jsonl``: letters and answers of a small world.

``python make_data.py`` writes the files, ``python make_data.py --check`` says whether they are what
this script writes, with status 1 where they are not.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import judge

DATA = Path(__file__).parent / "data"
SEED = 20240607
DEMONSTRATIONS = 700
PREFERENCES = 2000
LABEL_NOISE = 0.05  # share of pairs with the worse answer preferred, as people would
REVISIONS = 0.6  # share of pairs that differ in one part only
LEAST_DIFFERENCE = 0.1  # of the two scores in a pair
LETTERS = (
    "My name is {name}. The {product} I bought {said}. What can you do?",
    "Hello, this is {name}. My new {product} {said}. Please answer soon.",
    "I ordered a {product} from you and it {said}. Thanks, {name}",
    "Your {product} {said}. I would like to hear from you. Yours, {name}",
    "Dear team, the {product} from your shop {said}. Best, {name}",
)


@dataclass(frozen=True)
class Case:
    """Who writes, about what: a letter and what an answer to it must know."""

    name: str
    product: str
    problem: str
    letter: str


def draw_case(rng: random.Random) -> Case:
    """A letter about one product and one problem."""
    name, product = rng.choice(judge.CUSTOMERS), rng.choice(judge.PRODUCTS)
    problem = rng.choice(list(judge.PROBLEMS))
    said = rng.choice(judge.PROBLEMS[problem][0])
    letter = rng.choice(LETTERS).format(name=name, product=product, said=said)
    return Case(name, product, problem, letter)


def draw_answer(rng: random.Random, case: Case, care: float) -> str:
    """An answer in which each part is good with probability ``care``."""
    parts = [part(rng, case, rng.random() < care) for part in PARTS]
    if rng.random() > care and rng.random() < 0.4:
        parts = _spoil(rng, parts)
    return _joined(parts)


def draw_revision(rng: random.Random, case: Case) -> tuple[str, str]:
    """An answer and the same with one part made worse, as where somebody corrected a colleague."""
    parts = [part(rng, case, rng.random() < 0.7) for part in PARTS]
    place = rng.randrange(len(PARTS))
    better, worse = list(parts), list(parts)
    better[place], worse[place] = (PARTS[place](rng, case, good) for good in (True, False))
    return _joined(better), _joined(worse)


def _joined(parts: list[str]) -> str:
    return " ".join(part for part in parts if part)


def _greeting(rng: random.Random, case: Case, good: bool) -> str:
    return rng.choice(judge.GREETINGS if good else ("", *judge.CURT)).format(name=case.name)


def _tone(rng: random.Random, case: Case, good: bool) -> str:
    fitting, other = judge.REGRETS, judge.THANKS
    if case.problem == "praise":
        fitting, other = other, fitting
    form = rng.choice(fitting if good else rng.choice([judge.FLAT, other, judge.RUDE]))
    return form.format(product=case.product, clause=judge.PROBLEMS[case.problem][1])


def _remedy(rng: random.Random, case: Case, good: bool) -> str:
    if good:
        return rng.choice(judge.PROBLEMS[case.problem][2])
    return rng.choice(
        [*[rng.choice(list(judge.REMEDY_OF))] * 2, rng.choice(judge.USELESS), rng.choice(judge.RUDE)]
    )


def _closing(rng: random.Random, case: Case, good: bool) -> str:
    if good:
        return rng.choice(judge.CLOSINGS).format(agent=rng.choice(judge.AGENTS))
    return rng.choice(["", rng.choice(judge.RUDE), rng.choice(judge.USELESS)])


PARTS = (_greeting, _tone, _remedy, _closing)


def _spoil(rng: random.Random, parts: list[str]) -> list[str]:
    """The same answer with a part said again, a second remedy, the closing first, or cut off."""
    greeting, tone, remedy, closing = parts
    cut = " ".join(part for part in parts if part).split()
    cut = cut[: max(1, int(len(cut) * rng.uniform(0.3, 0.9)))]
    return rng.choice(
        [
            [greeting, tone, tone, remedy, remedy, closing],
            [greeting, tone, remedy, rng.choice(list(judge.REMEDY_OF)), closing],
            [greeting, tone, remedy, closing, closing],
            [closing, greeting, tone, remedy],
            [" ".join(cut)],
        ]
    )


def demonstrations(rng: random.Random) -> list[dict[str, str]]:
    """Rows of ``prompt`` and ``response``: answers as a mixed support desk would write them."""
    cases = _distinct_cases(rng, DEMONSTRATIONS)
    return [{"prompt": case.letter, "response": draw_answer(rng, case, rng.random())} for case in cases]


def preferences(rng: random.Random) -> list[dict[str, str]]:
    """Rows of ``prompt``, ``chosen`` and ``rejected``: by the rule, but for the label noise."""
    return [_pair(rng, case) for case in _distinct_cases(rng, PREFERENCES)]


def _distinct_cases(rng: random.Random, count: int) -> list[Case]:
    cases: dict[str, Case] = {}
    while len(cases) < count:
        case = draw_case(rng)
        cases[case.letter] = case
    return list(cases.values())


def _pair(rng: random.Random, case: Case) -> dict[str, str]:
    while True:
        if rng.random() < REVISIONS:
            answers = draw_revision(rng, case)
        else:
            answers = (draw_answer(rng, case, rng.random()), draw_answer(rng, case, rng.random()))
        worse, better = sorted(answers, key=lambda answer: judge.score(case.letter, answer))
        if judge.score(case.letter, better) - judge.score(case.letter, worse) >= LEAST_DIFFERENCE:
            break
    if rng.random() < LABEL_NOISE:
        worse, better = better, worse
    return {"prompt": case.letter, "chosen": better, "rejected": worse}


def build() -> dict[Path, str]:
    """Text of every data file, by path."""
    rows = {
        "demonstrations": demonstrations(random.Random(SEED)),
        "preferences": preferences(random.Random(SEED + 1)),
    }
    return {
        DATA / f"{name}.jsonl": "".join(json.dumps(row) + "\n" for row in part) for name, part in rows.items()
    }


def main() -> int:
    """Write the files, or compare them with ``--check``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    stale = 0
    for path, text in build().items():
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"stale: {path}", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
