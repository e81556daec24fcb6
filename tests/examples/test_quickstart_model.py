import subprocess
import sys
from pathlib import Path

from rlhfc.stages.common.job import InputPath
from rlhfc.stages.common.rendering import Renderer, install_template
from rlhfc.stages.common.tokenizers import load_tokenizer, wants_bos

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"
LETTER = "Hello, this is Ada. My new kettle drips water on my table. Please answer soon."
ANSWER = "Dear Ada, I am sorry that your kettle leaks. A new seal is on its way to you. Kind regards, Bea"


def test_model_is_what_the_script_leaves():
    """`make_model.py --check` rebuilds the tokenizer and measures the loss."""
    done = subprocess.run(
        [sys.executable, QUICKSTART / "make_model.py", "--check"], capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr


def test_rows_are_short_and_round_trip():
    """The chat template frames a row; prompt and answer are 15 to 40 tokens each."""
    tokenizer = load_tokenizer(InputPath(QUICKSTART / "model"))
    template = tokenizer.chat_template
    install_template(tokenizer, "auto")
    assert (template, False) == (tokenizer.chat_template, wants_bos(tokenizer))
    [[prompt, answer]] = Renderer(tokenizer).render([[{"role": "user", "content": LETTER}]], [[ANSWER]])
    text = tokenizer.decode([*prompt, *answer])
    assert f"<|bos|><|user|>{LETTER}<|assistant|>{ANSWER}<|eos|>" == text
    assert 15 <= len(prompt) <= 40
    assert 15 <= len(answer) <= 40
