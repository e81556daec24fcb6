"""The published schema of `plan --json`, and documents of every form."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from toy import Toy

from rlhfc.cli.main import main
from rlhfc.compile.reasons import ReasonCode
from rlhfc.plan.document import PlanDocument
from rlhfc.plan.planner import Verdict
from rlhfc.plan.schema import FILE_NAME, plan_schema, plan_schema_text

Validator = jsonschema.Draft202012Validator


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without room for fields that it does not name."""
    copied = copy.deepcopy(schema)
    for definition in (copied, *copied["$defs"].values()):
        definition["additionalProperties"] = False
    return copied


def faults(document: Any) -> list[str]:
    """What the closed schema has against a document, after a way through JSON."""
    plain = json.loads(json.dumps(document))
    return [error.message for error in Validator(closed(plan_schema())).iter_errors(plain)]


def documents(toy: Toy) -> Iterator[PlanDocument]:
    """Plans with a stage of each verdict that a store can give, and most fields filled."""
    yield toy.document()
    toy.run()
    yield toy.document()
    toy.edit("fit", rate=0.05, every=9)
    yield toy.document()
    yield toy.document("score")
    toy.edit("score", seed=8)
    key = toy.plan().stages["fit"].key
    assert key is not None
    toy.store.checkpoints[key] = (120, 200)
    yield toy.document()
    toy.installed.clear()
    yield toy.document()


def test_documents_are_valid(toy: Toy) -> None:
    """Every form of a plan fits the schema, and names nothing that the schema does not."""
    Validator.check_schema(plan_schema())
    made = list(documents(toy))
    assert [[]] * len(made) == [faults(document) for document in made]
    verdicts = {stage["verdict"] for document in made for stage in document["stages"]}
    assert {"cached", "resume", "run", "undecided"} == verdicts


def test_what_the_command_prints_is_valid(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So does the output of the command, with launches and skipped stages in it."""
    main(["plan", "toy.yaml", "--json", "--show", "first", "--target", "first"])
    document = json.loads(capsys.readouterr().out)
    assert [] == faults(document)
    assert [True, False] == ["rendered" in stage for stage in document["stages"]]


def test_sets_are_closed() -> None:
    """Verdicts and codes in the schema are those of the program, no more and no fewer."""
    definitions = plan_schema()["$defs"]
    verdicts = definitions["StageDocument"]["properties"]["verdict"]["enum"]
    codes = definitions["ReasonDocument"]["properties"]["code"]["enum"]
    assert ([str(verdict) for verdict in Verdict], [str(code) for code in ReasonCode]) == (verdicts, codes)


def test_the_published_file_is_fresh() -> None:
    """What is published under `schemas/` is what the types say."""
    published = Path(__file__).parents[2] / "schemas" / FILE_NAME
    assert plan_schema_text() == published.read_text(encoding="utf-8"), "run `rlhfc schema`"


WRONG: dict[str, Callable[[Any], object]] = {
    "a code": lambda plan: plan["stages"][0]["reasons"][0].update(code="because"),
    "a verdict": lambda plan: plan["stages"][0].update(verdict="maybe"),
    "the format": lambda plan: plan.update(format_version="2.0"),
    "a field too few": lambda plan: plan.pop("estimate"),
    "a field too many": lambda plan: plan.update(more=1),
    "a verdict without its count": lambda plan: plan["summary"].pop("skipped"),
    "a type": lambda plan: plan["stages"][0].update(line="1"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_found(what: str, toy: Toy) -> None:
    """The schema says something: one thing wrong is one error."""
    document: Any = toy.document()
    WRONG[what](document)
    assert 1 == len(faults(document))
