"""What our own code never calls: shells, pickles, evaluated text, loaders that build objects."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CALLS = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "os.execl", "os.execle", "os.execlp", "os.execv", "os.execve", "os.execvp"),
    *("os.execvpe", "os.spawnl", "os.spawnv", "os.spawnvp", "os.posix_spawn", "os.startfile", "pty.spawn"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "shelve.open", "dill.load"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"),
    *("tempfile.mktemp", "shutil.unpack_archive"),
    *("importlib.util.spec_from_file_location", "runpy.run_path", "runpy.run_module"),
    *("joblib.load", "jinja2.Environment", "jinja2.Template", "NativeEnvironment"),
}
NAMES = {"extractall", "extract", "exec_module", "load_module"}  # of whatever object
LOADERS = {"Loader", "FullLoader", "UnsafeLoader", "CLoader", "CFullLoader", "CUnsafeLoader"}
# What is allowed, with its reason: file, and the call as it is written there.
ALLOWED = {
    ("rlhfc/compile/kinds.py", "exec"): "a user's `kind.py`, after its folder was found to be trusted",
    ("rlhfc/compile/kinds.py", "compile"): "the same",
    ("rlhfc/run/guard.py", "os.execvp"): "the command of an attempt, as a list",
    (
        "stages/evaluate/judging.py",
        "importlib.util.spec_from_file_location",
    ): "a judge, trusted at compilation",
    ("stages/evaluate/judging.py", "exec_module"): "the same",
}


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Every file of the package and of the stages, parsed."""
    for top in ("rlhfc", "stages"):
        for path in sorted((ROOT / top).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def called(node: ast.Call) -> str:
    """The name of what is called, as it is written."""
    return ast.unparse(node.func)


def dangers(tree: ast.Module) -> Iterator[str]:
    """Calls that run text or bytes, or hand a line to a shell."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            yield from (f"import {name}" for name in names if name in ("pickle", "marshal", "shelve", "dill"))
        if isinstance(node, ast.ImportFrom) and node.module == "jinja2":
            yield from (
                f"jinja2.{name.name}" for name in node.names if name.name in ("Environment", "Template")
            )
        if isinstance(node, ast.Attribute) and node.attr in LOADERS and ast.unparse(node.value) == "yaml":
            yield ast.unparse(node)
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        options = {word.arg: word.value for word in node.keywords}
        if name in CALLS:
            yield name
        elif name.rpartition(".")[2] in NAMES and "." in name:
            yield name.rpartition(".")[2]
        if "shell" in options:
            yield "shell="
        if name.startswith("subprocess.") and node.args and not isinstance(node.args[0], ast.List | ast.Name):
            yield f"{name} of a string"
        if (
            name.endswith("torch.load")
            and ast.unparse(options.get("weights_only", ast.Constant(None))) != "True"
        ):
            yield "torch.load without weights_only=True"
        if name == "np.load" and "allow_pickle" in options:
            yield "np.load with allow_pickle"
        if "trust_remote_code" in options and ast.unparse(options["trust_remote_code"]) != "False":
            yield "trust_remote_code"


def test_no_source_calls_what_is_dangerous():
    """Each exception is on the list with its reason, and each entry of the list is still one."""
    found = {(path, danger) for path, tree in sources() for danger in dangers(tree)}
    assert set(ALLOWED) == found


def test_every_model_is_loaded_without_code_of_its_own():
    """Each call that loads a model, a tokenizer or data says so, here or in a mapping of options."""
    silent = [
        f"{path}:{node.lineno}"
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and called(node).endswith((".from_pretrained", ".load_dataset"))
        and "trust_remote_code=False" not in ast.unparse(node)
        and "**options" not in ast.unparse(node)
    ]
    assert [] == silent


def test_what_the_search_finds():
    """The search itself: each of these lines is found."""
    lines = """
import pickle
subprocess.run("ls", shell=True)
subprocess.run(f"ls {x}")
os.system("ls")
eval("1")
yaml.load(text, Loader=yaml.Loader)
torch.load(path)
torch.load(path, weights_only=False)
tarfile.open(path).extractall()
jinja2.Environment()
AutoModel.from_pretrained(path, trust_remote_code=True)
"""
    for line in lines.strip().splitlines():
        assert list(dangers(ast.parse(line))), line
