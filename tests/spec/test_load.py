"""From a spec to its stages: order, defaults, overrides, places, kinds of the user's own."""

from __future__ import annotations

import copy
import json
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhfc.errors import UserError
from rlhfc.spec.inputs import inputs_of, type_of_input
from rlhfc.spec.load import load_pipeline
from rlhfc.spec.parse import parse_file

SPLIT = """  split:
    kind: data_split
    tokenizer: {path: model}
    sources: [{data: {path: pairs.jsonl}, columns: {prompt: p, chosen: c, rejected: r}}]
"""
SFT = """  sft:
    kind: sft
    model: {path: model}
    data: split.sft
"""
REWARD = """  reward:
    kind: reward
    model: sft.model
    data: split.reward
"""
KIND = '''
from rlhfc.kind import Input, Kind, StageParams, semantic


class FilterParams(StageParams):
    """Rows that pass."""

    rows: Input = semantic()
    limits: list[int] = semantic([LIMIT])


KIND = Kind(name="filter", abi=1, params=FilterParams, inputs={"rows": "data"}, outputs={"rows": "data"})
'''


@pytest.fixture
def write(tmp_path):
    """Writes a spec with these stages and this head, and returns its path."""

    def writing(stages: str, head: str = "schema: 1\n") -> Path:
        path = tmp_path / "small.yaml"
        path.write_text(f"{head}stages:\n{stages}", encoding="utf-8")
        return path

    return writing


def messages(path: Path, *overrides: str) -> list[str]:
    """Messages that a spec is refused with."""
    with pytest.raises(UserError) as caught:
        load_pipeline(path, overrides)
    return [diagnostic.message for diagnostic in caught.value.diagnostics]


def test_stages_come_in_topological_order_with_ties_as_written(write):
    """A stage follows what it reads; stages that do not depend on each other keep the spec's order."""
    export = "  {0}: {{kind: export, model: {{path: m}}}}\n"
    spec = load_pipeline(write(REWARD + export.format("z") + SFT + SPLIT + export.format("a")))
    assert ["z", "split", "sft", "reward", "a"] == list(spec.stages)


def test_graph_edges_name_the_inputs_they_stand_for(write):
    """An edge leads to the reader and lists the addresses that refer to its start."""
    evaluate = (
        "  e: {kind: evaluate, baseline: sft.model, candidate: sft.model, reward_model: reward.model,\n"
    )
    evaluate += "      prompts: split.heldout, judges: [{name: j, code: {path: j.py}}]}\n"
    spec = load_pipeline(write(SPLIT + SFT + REWARD + evaluate))
    assert {
        ("split", "sft"): ["data"],
        ("split", "reward"): ["data"],
        ("split", "e"): ["prompts"],
        ("sft", "reward"): ["model"],
        ("sft", "e"): ["baseline", "candidate"],
        ("reward", "e"): ["reward_model"],
    } == {(start, end): found for start, end, found in spec.graph.edges.data("addresses")}


def test_name_is_the_files_stem_unless_given(write):
    """A pipeline is called as its file is, or as `name` says; its path is absolute."""
    path = write(SPLIT)
    assert ("small", path) == (load_pipeline(path).name, load_pipeline(path).path)
    assert "other" == load_pipeline(write(SPLIT, "schema: 1\nname: other\n")).name


def test_path_is_made_absolute(write, monkeypatch):
    """A spec that is named relative to the working directory has an absolute path all the same."""
    path = write(SPLIT)
    monkeypatch.chdir(path.parent)
    assert path == load_pipeline(Path("small.yaml")).path


def test_defaults_reach_stages_that_have_the_field_and_do_not_set_it(write):
    """A default fills a field where it exists, is not set, and whole: mappings are not merged."""
    head = "schema: 1\ndefaults: {epochs: 3, seed: 5, lora: {rank: 8, alpha: 1}}\n"
    reward = REWARD + "    epochs: 2\n    lora: {rank: 4}\n"
    stages = load_pipeline(write(SPLIT + SFT + reward, head)).stages
    assert (5, 3, 2) == (
        stages["split"].params.seed,
        stages["sft"].params.epochs,
        stages["reward"].params.epochs,
    )
    assert (1.0, None) == (stages["sft"].params.lora.alpha, stages["reward"].params.lora.alpha)


def test_defaulted_leaf_is_located_in_the_defaults(write):
    """The place of a value that came from `defaults` is where it is written."""
    spec = load_pipeline(write(SPLIT + SFT, "schema: 1\ndefaults:\n  epochs: 3\n"))
    assert (3, 11) == (
        spec.stages["sft"].locate(("epochs",)).line,
        spec.stages["sft"].locate(("epochs",)).column,
    )


def test_leaf_is_located_else_its_nearest_parent(write):
    """`locate` gives a leaf's place; for what is not written out, that of its parent or its stage."""
    stage = load_pipeline(write(SPLIT + SFT + "    lora: {rank: 4}\n")).stages["sft"]
    places = {path: stage.locate(path) for path in [("lora", "rank"), ("lora", "alpha"), ("seed",), ()]}
    assert {("lora", "rank"): (11, 18), ("lora", "alpha"): (11, 5), ("seed",): (7, 3), (): (7, 3)} == {
        path: (mark.line, mark.column) for path, mark in places.items()
    }
    assert stage.mark == stage.locate(())


def test_address_of_an_input_locates_it(write):
    """The steps of an address, split at its dots, lead to the input in the YAML."""
    stage = load_pipeline(write(SPLIT)).stages["split"]
    mark = stage.locate(("sources", "0", "data", "path"))
    assert (6, "pairs.jsonl") == (mark.line, mark.text[mark.column - 1 :][: mark.length])


def test_override_wins_and_is_located_on_the_command_line(write):
    """`--set` replaces, adds and reaches into lists; the last of several for one field holds."""
    overrides = [
        "sft.epochs=2",
        "sft.epochs=4",
        "sft.lora.rank=16",
        "split.sources.0.columns.prompt=question",
        "split.parts=[1, 1, 0]",
        "sft.description=a: b",
    ]
    with pytest.raises(UserError):
        load_pipeline(write(SPLIT + SFT), overrides)
    stages = load_pipeline(write(SPLIT + SFT), [*overrides[:-1], "sft.description='a: b'"]).stages
    sft, split = stages["sft"].params, stages["split"].params
    assert (4, 16, "a: b") == (sft.epochs, sft.lora.rank, sft.description)
    assert ("question", "c", [1, 1, 0]) == (
        split.sources[0].columns.prompt, split.sources[0].columns.chosen, split.parts
    )  # fmt: skip
    assert "sft.epochs=4" == stages["sft"].locate(("epochs",)).text


def test_override_of_an_input_changes_the_graph(write):
    """An input that is set on the command line is connected like one of the spec's."""
    spec = load_pipeline(write(SPLIT + SFT + REWARD), ["reward.model={path: other}"])
    assert not spec.graph.has_edge("sft", "reward")


def test_every_input_has_an_address():
    """Inputs are found at any depth, in the order of the fields."""
    stage = load_pipeline(Path("pipelines/llama2.yaml")).stages["sft_split"]
    assert ["tokenizer", *(f"sources.{index}.data" for index in range(4))] == list(inputs_of(stage.params))


def test_pattern_types_any_index_and_nothing_else():
    """`*` stands for exactly one step of an address."""
    declared = {"tokenizer": "model", "sources.*.data": "data"}
    found = [
        type_of_input(each, declared) for each in ("tokenizer", "sources.12.data", "sources.data", "data")
    ]
    assert ["model", "data", None, None] == found


def test_user_kind_is_loaded_from_its_folder(write, tmp_path):
    """A kind of the user's own is found beside the spec, and launched by its folder's name."""
    folder = tmp_path / "mine" / "filter"
    folder.mkdir(parents=True)
    (folder / "kind.py").write_text(KIND.replace("LIMIT", "7"), encoding="utf-8")
    stages = "  rows: {kind: filter, rows: {path: d}}\n" + SPLIT.replace("{path: pairs.jsonl}", "rows.rows")
    spec = load_pipeline(write(stages, "schema: 1\nkinds: [./mine]\n"))
    loaded = spec.stages["rows"].loaded
    assert (folder, "filter.main", tmp_path / "mine") == (loaded.folder, loaded.module, loaded.python_path)
    assert [7] == spec.stages["rows"].params.limits
    assert ["kind.py"] == [path.name for path in folder.iterdir()], "loading leaves nothing behind"


def test_edited_user_kind_is_read_anew(write, tmp_path):
    """An edit of a kind counts at once, however soon after the last load and of whatever size."""
    folder = tmp_path / "mine" / "filter"
    folder.mkdir(parents=True)
    path = write("  rows: {kind: filter, rows: {path: d}}\n", "schema: 1\nkinds: [mine]\n")
    for limit in ("7", "8"):
        (folder / "kind.py").write_text(KIND.replace("LIMIT", limit), encoding="utf-8")
        assert [int(limit)] == load_pipeline(path).stages["rows"].params.limits


def test_kind_that_does_not_parse_is_located(write, tmp_path):
    """A syntax error in a user's kind is told with its line."""
    folder = tmp_path / "mine" / "filter"
    folder.mkdir(parents=True)
    (folder / "kind.py").write_text("x = 1\nKIND = (\n", encoding="utf-8")
    path = write("  rows: {kind: filter}\n", "schema: 1\nkinds: [mine]\n")
    with pytest.raises(UserError) as caught:
        load_pipeline(path)
    (diagnostic,) = caught.value.diagnostics
    assert ("`kind.py` fails: SyntaxError: '(' was never closed", 2) == (
        diagnostic.message,
        diagnostic.mark.line,
    )


def test_two_user_folders_may_not_share_a_name(write, tmp_path):
    """The same kind name in two of the user's folders is refused."""
    for parent in ("one", "two"):
        (tmp_path / parent / "filter").mkdir(parents=True)
        (tmp_path / parent / "filter" / "kind.py").write_text(KIND.replace("LIMIT", "7"), encoding="utf-8")
    path = write("  rows: {kind: filter, rows: {path: d}}\n", "schema: 1\nkinds: [one, two]\n")
    expected = f"kind `filter` in `{tmp_path / 'two'}` has the name of `{tmp_path / 'one' / 'filter'}`"
    assert [expected] == messages(path)


def test_default_that_only_an_unknown_kind_could_have_is_not_blamed(write):
    """With a kind mistyped, the defaults that its stage would have taken are left alone."""
    path = write(SPLIT + SFT.replace("kind: sft", "kind: stf"), "schema: 1\ndefaults: {epochs: 2}\n")
    assert ["sft.kind: there is no kind `stf`"] == messages(path)


def test_llama2_has_upstreams_values():
    """The Llama-2 pipeline states the presets' batch sizes, rates, decay, ZeRO stages and offload."""
    stages = load_pipeline(Path("pipelines/llama2.yaml")).stages
    sft, reward, ppo = (stages[name].params for name in ("sft", "reward", "ppo"))
    engines = stages["engines"].params
    assert (32, 9.65e-6, 0.0, 4, 3, "none") == (
        sft.global_batch_size, sft.learning_rate, sft.weight_decay, sft.epochs, sft.zero_stage, sft.offload
    )  # fmt: skip
    assert (64, 9.65e-6, 0.1, 1, 3, "all") == (
        reward.global_batch_size, reward.learning_rate, reward.weight_decay, reward.epochs, reward.zero_stage,
        reward.offload,
    )  # fmt: skip
    assert (8, 9.65e-6, 5e-6, 0.1, 0.1, 100, 1) == (
        ppo.rollout_batch_size, ppo.actor_learning_rate, ppo.critic_learning_rate, ppo.actor_weight_decay,
        ppo.critic_weight_decay, ppo.warmup_steps, ppo.ppo_epochs,
    )  # fmt: skip
    roles = (engines.actor, engines.critic, engines.reference, engines.reward)
    assert [(3, "none"), (3, "none"), (3, "all"), (3, "none")] == [(e.zero_stage, e.offload) for e in roles]
    assert {"sft", "reward", "engines", "ppo", "evaluate"} == {
        name for name, stage in stages.items() if stage.params.ranks == 8
    }


def test_wrong_field_hides_no_other_mistake(write):
    """With a field wrong, engines, references and cycles of the same stage are checked all the same."""
    sft = SFT.replace("split.sft", "split.reward") + "    epochs: two\n    offload: all\n"
    assert [
        "sft.data: expected type `demonstrations`, but `split.reward` is of type `preferences`",
        "sft.epochs: expected a whole number, got `two`",
        "sft.offload: `all` needs ZeRO stage 3, and zero_stage is 0",
    ] == messages(write(SPLIT + sft))


def test_wrong_field_is_not_taken_for_its_default(write):
    """What depends on a field that is wrong is not blamed as if that field had its default."""
    sft = SFT + "    zero_stage: three\n    offload: all\n"
    expected = "sft.zero_stage: expected one of `0`, `1`, `2`, `3`, got `three`"
    assert [expected] == messages(write(SPLIT + sft))


SCRAPS = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        2.5,
        "",
        "x",
        "sft.model",
        "a.b",
        "engines",
        [],
        ["a"],
        [[1]],
        {},
        {"path": "p"},
        {"x": {}},
        "${start}",
        "${matrix.kl} of ${steps}",
        "${env:A}",
        "$${ ${",
        {"kl": "${kl}", "exclude": [{"kl": 0.02}]},
        ["${matrix.lr}"],
    ]
)
DOCUMENTS = st.sampled_from(["pipelines/llama2.yaml", "examples/04-sweep/pipeline.yaml"])


def places(value, path=()):
    """Path of each value inside a plain document."""
    for step, below in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, step)
        if isinstance(below, dict | list):
            yield from places(below, (*path, step))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_damage_is_a_mistake_of_the_users(tmp_path_factory, data):
    """However a spec is damaged, loading gives a pipeline or located mistakes, never another failure."""
    document = parse_file(Path(data.draw(DOCUMENTS))).plain()
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from(list(places(document))))
        holder = reduce(getitem, parents, document)
        holder[last] = copy.deepcopy(data.draw(SCRAPS))
    file = tmp_path_factory.mktemp("damaged") / "spec.yaml"
    file.write_text(json.dumps(document), encoding="utf-8")
    mistakes = ()
    try:
        load_pipeline(file)
    except UserError as error:
        mistakes = error.diagnostics
    assert all(mistake.mark is not None and mistake.mark.file == file for mistake in mistakes)
