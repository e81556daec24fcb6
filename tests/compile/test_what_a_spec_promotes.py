"""`libraries:` and `numerics:` of a spec: what they put into keys, and what they take out."""

from __future__ import annotations

from typing import Any

import pytest
from bench import Bench

from rlhfc.compile.keys import KeyDocument, Undecided, key_document

FULL = {"torch": "2.13.1+cpu", "transformers": "5.23.0", "tokenizers": "0.22.1", "python": "3.11.7"}


def card(bench: Bench, all_kinds: str, libraries: str, installed: dict[str, str]) -> KeyDocument | Undecided:
    """What is known of the last stage's key, under a policy and with what is installed."""
    spec = all_kinds.replace("stages:\n", f"libraries: {libraries}\nstages:\n", 1)
    action = bench.compile(spec).actions["card"]
    outputs = dict.fromkeys((("ppo", "actor"), ("score", "report")), "b3:0")
    return key_document(action, outputs, installed.get)


def versions(known: KeyDocument | Undecided) -> tuple[dict[str, Any], dict[str, Any]]:
    """Versions in the key, and those beside it."""
    assert isinstance(known, KeyDocument)
    beside = {
        path.removeprefix("libraries."): value
        for path, value in known.recorded.items()
        if path.startswith("libraries.")
    }
    return known.document["libraries"], beside


@pytest.mark.parametrize(
    ("policy", "keyed", "recorded"),
    [
        ("{}", {"torch": "2.13", "transformers": "5.23", "tokenizers": "0.22"}, {"python"}),
        (
            "{torch: warn, transformers: ignore, tokenizers: invalidate}",
            {"tokenizers": "0.22"},
            {"python", "transformers"},
        ),
        ("strict", FULL, {"python"}),
    ],
    ids=["default", "each", "strict"],
)
def test_a_policy(
    policy: str, keyed: dict[str, str], recorded: set[str], bench: Bench, all_kinds: str
) -> None:
    """Each policy decides which versions are in the key and which are kept beside it."""
    beside = {name: version for name, version in FULL.items() if name not in recorded}
    assert (keyed, beside) == versions(card(bench, all_kinds, policy, FULL))


def test_a_library_that_is_missing(bench: Bench, all_kinds: str) -> None:
    """Only a version that the key wants leaves it undecided."""
    installed = {"tokenizers": "0.22.1"}
    known = card(bench, all_kinds, "{torch: warn, transformers: ignore}", installed)
    assert ({"tokenizers": "0.22"}, {"tokenizers": "0.22.1"}) == versions(known)
    strict = card(bench, all_kinds, "strict", installed)
    assert isinstance(strict, Undecided)
    assert ["torch", "transformers", "python"] == [reason.path for reason in strict.reasons]


NUMERIC = {
    "sft": ["ranks=2", "micro_batch_size=2", "threads=3", "zero_stage=2", "gradient_checkpointing=true"],
    "engines": ["critic.zero_stage=0", "actor.gradient_checkpointing=true"],
    "split": ["workers=2"],
}


@pytest.mark.parametrize(
    ("stage", "edit"), [(stage, edit) for stage, edits in NUMERIC.items() for edit in edits]
)
def test_strict_numerics(stage: str, edit: str, bench: Bench, all_kinds: str) -> None:
    """Under `numerics: strict` a numeric leaf reruns its stage and what reads it as a setting."""
    strict = all_kinds.replace("stages:\n", "numerics: strict\nstages:\n", 1)
    before, after = bench.keys(strict), bench.keys(strict, [f"{stage}.{edit}"])
    readers = ["ppo"] if stage == "engines" else []
    assert [stage, *readers] == [name for name in before if before[name] != after[name]]
    assert bench.keys(all_kinds) == bench.keys(all_kinds, [f"{stage}.{edit}"])


def test_strict_numerics_of_one_stage(bench: Bench, all_kinds: str) -> None:
    """A stage has the last word; what does not promote anything leaves all keys alone."""
    of_one = all_kinds.replace("kind: sft\n", "kind: sft\n    numerics: strict\n")
    all_but_one = all_kinds.replace("stages:\n", "numerics: strict\nstages:\n", 1).replace(
        "kind: sft\n", "kind: sft\n    numerics: recorded\n"
    )
    plain, one, rest = (bench.keys(text) for text in (all_kinds, of_one, all_but_one))
    assert ["sft"] == [name for name in plain if plain[name] != one[name]]
    assert ["sft"] == [name for name in plain if plain[name] == rest[name]]
    assert plain == bench.keys(all_kinds.replace("stages:\n", "numerics: recorded\nstages:\n", 1))


def test_strict_numerics_know_the_device(bench: Bench, all_kinds: str) -> None:
    """What `device: auto` came to is in the key, not that it was left open; runtime leaves are not."""
    strict = all_kinds.replace("stages:\n", "numerics: strict\nstages:\n", 1)
    here, there = bench.documents(strict), bench.on(gpus=8).documents(strict)
    assert ["score"] == [name for name in here if here[name].key != there[name].key]
    devices = [found["score"].document["config"]["params"]["device"] for found in (here, there)]
    assert ["cpu", "gpu"] == devices
    assert bench.keys(strict) == bench.keys(strict, ["sft.log_every=3", "sft.description=words"])
