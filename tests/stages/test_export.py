import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from data_helpers import config_file, llama_like
from rlhfc.stages.common.job import StageError, load_job
from rlhfc.stages.common.rendering import Renderer, install_template
from rlhfc.stages.export.kind import KIND, ExportParams
from rlhfc.stages.export.main import main
from transformers import LlamaConfig, LlamaForCausalLM

# Runs with transformers alone: `-I` leaves out PYTHONPATH and the folder that it starts in, and the
# finder refuses every module of ours.
OUTSIDE = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("rlhfc", "stages"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.manual_seed(0)
folder = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
prompt = tokenizer.apply_chat_template(
    [{"role": "user", "content": "what is the time?"}], add_generation_prompt=True,
    return_tensors="pt", return_dict=True,
)
with torch.no_grad():
    logits = model(**prompt).logits[0, -1]
    answer = model.generate(**prompt)[0]
print(json.dumps({
    "prompt": prompt["input_ids"][0].tolist(),
    "logits": logits.tolist(),
    "generated": len(answer) - prompt["input_ids"].shape[1],
    "dtype": str(model.dtype),
    "ours": [name for name in sys.modules if name.partition(".")[0] in ("rlhfc", "stages")],
}))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder of a small model with its tokenizer, as a training stage leaves it."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = llama_like()
    install_template(tokenizer, "human_assistant")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    return folder


def export(work, model, **fields):
    """An ``export`` job that has run; ``evaluation`` is a path."""
    inputs = {"model": model} | ({"evaluation": fields["evaluation"]} if "evaluation" in fields else {})
    params = {name: name for name in inputs} | {n: v for n, v in fields.items() if n not in inputs}
    job = load_job(KIND, ExportParams, config_file(work, "export", params, inputs, ("model",)))
    main(job)
    return job


def test_plain_transformers_loads_the_same_model(tmp_path, model):
    """With nothing of ours, the exported folder gives the input's logits and prompt ids, and generates."""
    job = export(tmp_path / "w", model, dtype="fp32", max_response_tokens=5)
    done = subprocess.run(
        [sys.executable, "-I", "-c", OUTSIDE, str(job.outputs["model"])],
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    outside = json.loads(done.stdout)
    tokenizer = llama_like()
    install_template(tokenizer, "human_assistant")
    ids = Renderer(tokenizer).render_prompt([{"role": "user", "content": "what is the time?"}])
    with torch.no_grad():
        expected = LlamaForCausalLM.from_pretrained(model)(torch.tensor([ids])).logits[0, -1]
    assert (ids, "torch.float32", []) == (outside["prompt"], outside["dtype"], outside["ours"])
    assert expected.tolist() == outside["logits"]
    assert 1 <= outside["generated"] <= 5


def test_folder_and_manifest(tmp_path, model):
    """Weights in the asked type, every file named in the manifest, stop ids and sampling written out."""
    job = export(
        tmp_path / "w", model, dtype="bf16", stop_token_ids=[1], temperature=0.7, max_response_tokens=9
    )
    manifest = json.loads(job.paths["manifest"].read_text())
    names = [entry["path"] for entry in manifest["ports"]["model"]]
    assert [
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] == names
    weights = LlamaForCausalLM.from_pretrained(job.outputs["model"], dtype="auto")
    size = sum(parameter.numel() for parameter in weights.parameters())
    assert ({"parameters": size, "dtype": "bf16"}, torch.bfloat16) == (manifest["summary"], weights.dtype)
    generation = json.loads((job.outputs["model"] / "generation_config.json").read_text())
    del generation["transformers_version"]
    assert {
        "bos_token_id": 1,
        "do_sample": True,
        "eos_token_id": [1, 2],
        "max_new_tokens": 9,
        "pad_token_id": 2,
        "temperature": 0.7,
        "top_k": 0,
        "top_p": 1.0,
    } == generation


def test_model_card_tells_lineage_and_figures(tmp_path, model):
    """The card has the action key, digests of the weights, and the numbers of the evaluation."""
    evaluation = tmp_path / "report"
    evaluation.mkdir()
    figures = {"format": 1, "win_rate": {"rule": {"win": 0.81234, "interval": [0.7, 0.9]}}, "samples": ["…"]}
    (evaluation / "evaluation.json").write_text(json.dumps(figures))
    job = export(tmp_path / "w", model, evaluation=evaluation)
    card = (job.outputs["model"] / "README.md").read_text()
    digest = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    for line in (
        "# Aligned `LlamaForCausalLM`",
        "| win_rate.rule.win | 0.8123 |",
        "| win_rate.rule.interval | 0.7 to 0.9 |",
        "| action key | `b3:0123` |",
        f"| made from `model.safetensors` | `sha256:{digest}` |",
        "| `dtype` | `bf16` |",
    ):
        assert line in card.splitlines()
    assert "samples" not in card


def test_the_same_action_gives_the_same_bytes_elsewhere(tmp_path, model):
    """No path of this machine and no clock reaches the folder."""
    jobs = [export(tmp_path / where, model, description=where) for where in ("a", "elsewhere/b")]
    first, second = (
        {path.name: path.read_bytes() for path in job.outputs["model"].iterdir()} for job in jobs
    )
    assert first == second
    assert str(tmp_path).encode() not in b"".join(first.values())
    assert str(model).encode() not in b"".join(first.values())


def test_weights_that_fp16_cannot_hold_are_refused(tmp_path, model):
    """A weight beyond 65504 becomes infinite, and the message says so instead of exporting it."""
    large = LlamaForCausalLM.from_pretrained(model)
    with torch.no_grad():
        large.model.norm.weight[0] = 1e6
    folder = tmp_path / "large"
    large.save_pretrained(folder)
    llama_like().save_pretrained(folder)
    with pytest.raises(StageError) as caught:
        export(tmp_path / "w", folder, dtype="fp16")
    assert (
        "weights are not finite in fp16: model.norm.weight",
        "fp16 ends at 65504: export as bf16 or fp32",
    ) == (
        str(caught.value),
        caught.value.hint,
    )


def test_tokenizer_larger_than_the_embedding_is_refused(tmp_path, model):
    """Ids beyond the embedding would fail at the first prompt that holds one."""
    folder = tmp_path / "model"
    LlamaForCausalLM.from_pretrained(model).save_pretrained(folder)
    tokenizer = llama_like()
    tokenizer.add_tokens(["more", "words"])
    tokenizer.save_pretrained(folder)
    count = len(tokenizer)
    with pytest.raises(
        StageError, match=f"the tokenizer has {count} tokens and the model embeds {count - 2}"
    ):
        export(tmp_path / "w", folder)


def test_an_evaluation_that_is_none(tmp_path, model):
    """A folder without `evaluation.json` is the user's mistake."""
    with pytest.raises(StageError, match=r"cannot read the evaluation `evaluation.json`"):
        export(tmp_path / "w", model, evaluation=tmp_path)


def test_a_stop_token_outside_the_vocabulary(tmp_path, model):
    """Refused before anything is written."""
    with pytest.raises(StageError, match="stop token 99999 is not in the vocabulary"):
        export(tmp_path / "w", model, stop_token_ids=[99999])
    assert [] == list(Path(tmp_path / "w" / "out" / "model").iterdir())
