"""What a stranger's template, model, repository or store cannot do."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from jinja2.exceptions import SecurityError
from rlhfc.stages.common.job import InputPath, StageError
from rlhfc.stages.common.models import load_causal_lm, load_reward_model

from rlhfc.compile.render import _environment as launch_templates
from rlhfc.errors import UserError
from rlhfc.provenance import commit_of
from rlhfc.report.write import _environment as report_templates
from rlhfc.run.attempt import new_attempt, take_over
from rlhfc.store.checkpoints import set_damaged_aside
from rlhfc.store.store import Store

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ x.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ lipsum.__globals__['os'].popen('true').read() }}",
    "{{ x['__class__'] }}",
    "{{ (x|attr('__class__'))|attr('__base__') }}",
    "{{ '{0.__class__}'.format(x) }}",
    "{{ self._TemplateReference__context.environment }}",
]


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("templates", [launch_templates, report_templates], ids=["launch", "report"])
def test_template_stays_in_its_sandbox(escape, templates, tmp_path):
    """No way from a value to Python's inside: it fails, or it yields nothing."""
    environment = templates(tmp_path) if templates is launch_templates else templates()
    with pytest.raises(Exception, match=r"unsafe|undefined|no attribute|has no") as raised:
        environment.from_string(escape).render(x="text")
    assert isinstance(raised.value, SecurityError) or "ndefined" in type(raised.value).__name__


@pytest.mark.parametrize("name", ["../secret.j2", "../../secret.j2", "/etc/hostname"])
def test_template_includes_nothing_from_elsewhere(name, tmp_path):
    """An include leads out of the folders of kinds neither upwards nor by an absolute path."""
    folder = tmp_path / "deep" / "kinds" / "toy"
    folder.mkdir(parents=True)
    (tmp_path / "secret.j2").write_text("secret")
    (tmp_path / "deep" / "secret.j2").write_text("secret")
    with pytest.raises(Exception, match=r"secret|hostname") as raised:
        launch_templates(folder).from_string(f"{{% include {json.dumps(name)} %}}").render()
    assert "TemplateNotFound" == type(raised.value).__name__


CODE = """
import pathlib
pathlib.Path(__file__).with_name("ran").touch()
from transformers import PretrainedConfig, PreTrainedModel
class OwnConfig(PretrainedConfig):
    model_type = "own"
class OwnModel(PreTrainedModel):
    config_class = OwnConfig
"""


def test_model_with_code_of_its_own_is_refused(tmp_path):
    """`auto_map` names Python in the model's folder: it is not run, and the message says so."""
    (tmp_path / "own.py").write_text(CODE)
    auto = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": auto}))
    for load in (load_causal_lm, load_reward_model):
        with pytest.raises(StageError) as raised:
            load(InputPath(tmp_path), dtype="fp32")
        said = f"`{tmp_path}` brings modelling code of its own (`auto_map`), which rlhfc does not run"
        assert (said, "use a model that transformers has the architecture of") == (
            str(raised.value),
            raised.value.hint,
        )
    assert not (tmp_path / "ran").exists()


def test_known_architecture_runs_without_the_code_beside_it(tmp_path):
    """A model that transformers knows is loaded as transformers has it, whatever `auto_map` says."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                         num_attention_heads=1)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    (tmp_path / "own.py").write_text(CODE)
    words = json.loads((tmp_path / "config.json").read_text())
    auto = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (tmp_path / "config.json").write_text(json.dumps({**words, "auto_map": auto}))
    assert isinstance(load_causal_lm(InputPath(tmp_path), dtype="fp32"), LlamaForCausalLM)
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_a_pickle_are_refused(tmp_path):
    """A folder with `.bin` only is not read; one with safetensors beside it is."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                         num_attention_heads=1)  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert load_causal_lm(InputPath(tmp_path), dtype="fp32") is not None
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(StageError) as raised:
        load_causal_lm(InputPath(tmp_path), dtype="fp32")
    assert f"`{tmp_path}` has its weights in `pytorch_model.bin`, a pickle, and none as safetensors" == str(
        raised.value
    )


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A repository with a committed spec that has been edited since, so that git looks at what it holds."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    (tmp_path / "spec.yaml").write_text("schema: 1\n")
    for command in (["init", "-q"], ["add", "spec.yaml"], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], check=True)
    (tmp_path / "spec.yaml").write_text("schema: 2\n")
    return tmp_path


def configure(repository: Path, name: str, value: str) -> None:
    """Write a setting that the repository brings along."""
    subprocess.run(["git", "config", name, value], cwd=repository, check=True)


@pytest.mark.parametrize(
    "name", ["core.fsmonitor", "filter.evil.clean", "filter.evil.process", "filter.e.v.clean"]
)
def test_repository_has_git_run_nothing(name, repository):
    """Helpers and filters that a repository configures do not run when a plan asks for its commit."""
    script = repository / "evil"
    script.write_text(f"#!/bin/sh\ntouch {repository}/ran\ncat\n")
    script.chmod(0o755)
    configure(repository, name, str(script))
    configure(repository, "filter.evil.required", "true")
    (repository / ".gitattributes").write_text(
        f"*.yaml filter={name.removeprefix('filter.').rpartition('.')[0]}\n"
    )
    found = commit_of([repository / "spec.yaml"])
    assert found is not None
    assert (True, False) == (found.dirty, (repository / "ran").exists())
    subprocess.run(["git", "status"], cwd=repository, check=False, capture_output=True)
    assert (repository / "ran").exists(), "git itself would have run it"


WRITTEN = [
    "ledger.jsonl",
    "tmp",
    "locks",
    "reports",
    "objects/ab",
    "actions/ab",
    "work/sft-0123",
    "stat-cache.json",
]
WRITTEN += [
    "work/sft-0123/metrics.jsonl",
    "work/sft-0123/checkpoints",
    "work/sft-0123/attempts/001",
    "work/sft-0123/attempts/001/checkpoints",
    "work/sft-0123/attempts/001/metrics.jsonl",
    "work/sft-0123/attempts/001/stop",
    "work/sft-0123/out",
]


@pytest.mark.parametrize("name", WRITTEN)
def test_store_of_a_stranger_has_a_run_write_nowhere_else(name, tmp_path):
    """A link among a store's own names stops a run before it writes; reading the store is still allowed."""
    Store.create(tmp_path / "store")
    outside = tmp_path / "outside"
    outside.mkdir()
    place = tmp_path / "store" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        place.rmdir()
    place.symlink_to(outside)
    with pytest.raises(UserError) as raised:
        Store.create(tmp_path / "store")
    assert f"`{place}` is a link, and a store holds none: it would have a run write elsewhere" in str(
        raised.value
    )
    Store.open(tmp_path / "store")
    assert [] == list(outside.iterdir())


def test_checkpoint_that_is_a_link_is_not_taken_over(tmp_path):
    """A stranger's checkpoint elsewhere is not resumed from, nor marked as damaged where it lies."""
    outside, work = tmp_path / "outside", tmp_path / "work"
    (work / "attempts" / "001" / "checkpoints").mkdir(parents=True)
    outside.mkdir()
    (outside / "COMPLETE.json").write_text("{}")
    (work / "attempts" / "001" / "checkpoints" / "step-000001").symlink_to(outside)
    (tmp_path / "tmp").mkdir()
    take_over(work, new_attempt(work), tmp_path / "tmp")
    assert [] == list(set_damaged_aside(tmp_path, work, "b3:00"))
    assert [] == list((work / "attempts" / "002" / "checkpoints").iterdir())
    assert [outside / "COMPLETE.json"] == list(outside.iterdir())


def test_store_itself_may_be_a_link(tmp_path):
    """Whoever names the store decides where it is."""
    Store.create(tmp_path / "store")
    (tmp_path / "link").symlink_to(tmp_path / "store")
    assert Store.create(tmp_path / "link").layout.ledger.parent == tmp_path / "link"


def test_new_files_have_the_modes_of_the_user(tmp_path):
    """Folders and records are as the umask says; blobs are read-only for all who may read them."""
    before = os.umask(0o027)
    try:
        store = Store.create(tmp_path / "store")
        store.ledger.append("published", pipeline="p", stage="s", key="b3:00", run="r", seconds=1.0)
    finally:
        os.umask(before)
    modes = {name: (tmp_path / "store" / name).stat().st_mode & 0o777 for name in ("objects", "ledger.jsonl")}
    assert {"objects": 0o750, "ledger.jsonl": 0o640} == modes
