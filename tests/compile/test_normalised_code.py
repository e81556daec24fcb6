"""What of a stage's code enters its key."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhfc.compile.action import LoadedKind
from rlhfc.compile.code import code_digests
from rlhfc.compile.digests import CachedDigester
from rlhfc.compile.normalise import normalise, read_source
from rlhfc.errors import UserError
from rlhfc.kind import Kind, StageParams
from rlhfc.store.digest import bytes_digest

Write = Callable[[str, str], Path]

# A dot in the middle stands for white space at a line's end, which editors remove.
SOURCE = '''#!/usr/bin/env python
# -*- coding: utf-8 -*-
"""Module docstring
over two lines."""

import os  # trailing comment

x = "# no comment"···

class A:
    """Docstring."""

    size = 3

    async def f(self):
        "é one-line docstring"; y = 1
        # a comment alone
        return """kept

  # inside···
"""

def g():
    """Only a docstring"""
····
z = f"""{x}

 # kept"""
'''.replace("·", " ")

NORMALISED = '''import os
x = "# no comment"
class A:
    size = 3
    async def f(self):
        ; y = 1
        return """kept

  # inside···
"""
def g():
z = f"""{x}

 # kept"""'''.replace("·", " ")


def test_normalisation_as_a_whole() -> None:
    """Comments, docstrings, blank lines and trailing white space go; what stands in strings stays."""
    assert NORMALISED == normalise(SOURCE)


@pytest.mark.parametrize(
    "text",
    [
        "x = 1\n",
        "x = 1",
        "\n\nx = 1   \n\n",
        "# why\nx = 1  # what\n",
        '"""What it is."""\nx = 1\n',
        "x = 1\r\n",
        "'a' 'b'\nx = 1\n",
        '(\n"doc" # inside\n"string")\nx = 1\n',
    ],
)
def test_cosmetic_edits_change_nothing(text: str) -> None:
    """Each of these does what `x = 1` does."""
    assert "x = 1" == normalise(text).removeprefix("(\n").removeprefix(")\n")


@pytest.mark.parametrize("text", ["x = 2\n", "if True:\n    x = 1\n", "x = '1'\n", "x = 1 ; y = 2\n"])
def test_other_edits_change_the_text(text: str) -> None:
    """What may run otherwise is other text."""
    assert "x = 1" != normalise(text)


def test_an_empty_line_that_ends_a_statement() -> None:
    """Behind a backslash an empty line is the end of what stands before it, and no layout."""
    ended, continued = "x = 1 \\\n\n+ 2\n", "x = 1 \\\n+ 2\n"
    assert normalise(ended) != normalise(continued)
    assert normalise(continued) == normalise(continued.replace("2", "2  # why"))
    assert ast.dump(ast.parse(ended)) == ast.dump(ast.parse(normalise(ended)))


def test_a_golden_digest(write: Write) -> None:
    """The digest is that of the normalised text, the same on every Python: a golden vector."""
    path = write("a.py", SOURCE)
    expected = "b3:c9b313492dc6381435953c121b7de6ec9038b1cc9dd085e4ca21d9c02b398199"
    assert expected == read_source(path).digest == bytes_digest(NORMALISED.encode())


def test_imports_of_every_form(write: Write) -> None:
    """Relative imports keep their dots, names may be modules, functions are looked into."""
    path = write("a.py", "import os.path, b\nfrom . import c\ndef f():\n    from ..d.e import g as h\n")
    assert ("os.path", "b", ".", ".c", "..d.e", "..d.e.g") == read_source(path).imports


def kind_in(folder: Path, python_path: Path | None) -> LoadedKind:
    """A kind without fields in a folder with a ``main.py``."""
    module = f"{folder.name}.main" if python_path else f"rlhfc.stages.{folder.name}.main"
    kind = Kind(folder.name, 1, StageParams, {}, {"out": "thing"})
    return LoadedKind(kind, folder, module, python_path)


def test_the_closure_of_a_built_in_kind(write: Write, tmp_path: Path) -> None:
    """Reached are packages, neighbours and what they import; not `kind.py`, not what nobody imports."""
    write("stages/__init__.py", "")
    write("stages/common/__init__.py", "")
    write("stages/common/losses.py", "from .deep import d\n")
    write("stages/common/deep.py", "import torch\n")
    write("stages/common/unused.py", "")
    write("stages/fit/__init__.py", "")
    write("stages/fit/kind.py", "from . import secret\n")
    write("stages/fit/secret.py", "")
    write("stages/fit/card.md.j2", "text")
    write("stages/fit/launch.argv.j2", "command")
    write("stages/fit/README.md", "words")
    write("stages/fit/main.py", "from ..common import losses\nfrom .kind import KIND\n")
    expected = {
        "stages/__init__.py",
        "stages/common/__init__.py",
        "stages/common/deep.py",
        "stages/common/losses.py",
        "stages/fit/__init__.py",
        "stages/fit/card.md.j2",
        "stages/fit/main.py",
    }
    assert expected == set(code_digests(kind_in(tmp_path / "stages/fit", None), CachedDigester()))


DECLARING = '''"""Words."""
from rlhfc.kind import Kind, StageParams, semantic

class FitParams(StageParams):
    """Words."""

    rate: float = semantic(0.5)

    @field_validator("rate")
    @classmethod
    def _positive(cls, value):
        return value

    @model_validator(mode="after")
    def _whole(self):
        return self

class Empty(SpecModel):
    pass

KIND = Kind("fit", 1, FitParams, {}, {})
'''


@pytest.mark.parametrize(
    ("more", "counts"),
    [
        ("", False),
        ("LIMIT = 3\n", True),
        ("def bound(x):\n    return x\n", True),
        ("class A:\n    def f(self):\n        return 1\n", True),
        ("class A:\n    limit = 3\n", True),
        ("class A:\n    limit: int = 3\n", True),
        ("class A(SpecModel):\n    limit: int = 3\n", False),
        ("class A(SpecModel):\n    limit: ClassVar[int] = 3\n", True),
        ("class A(SpecModel):\n    limit: 'typing.ClassVar' = 3\n", True),
        ("@dataclass\nclass A(SpecModel):\n    limit: int = 3\n", True),
        ("if True:\n    import os\n", True),
    ],
)
def test_a_kind_file_with_code_of_its_own(more: str, counts: bool, write: Write, tmp_path: Path) -> None:
    """What `main.py` could take from there besides values of fields is code like any other."""
    write("mine/fit/main.py", "from .kind import KIND\n")
    write("mine/fit/kind.py", DECLARING + more)
    code = code_digests(kind_in(tmp_path / "mine/fit", tmp_path / "mine"), CachedDigester())
    assert counts == ("fit/kind.py" in code)


def test_the_kind_file_of_another(write: Write, tmp_path: Path) -> None:
    """Its defaults are no leaves of this kind, so the file counts; as does any other of that name."""
    write("mine/fit/main.py", "import other.kind\nfrom .deep import kind\n")
    write("mine/fit/deep/kind.py", "x: int = 1\n")
    write("mine/other/kind.py", DECLARING)
    code = code_digests(kind_in(tmp_path / "mine/fit", tmp_path / "mine"), CachedDigester())
    assert {"fit/main.py", "fit/deep/kind.py", "other/kind.py"} == set(code)


def test_the_closure_of_a_kind_of_the_users(write: Write, tmp_path: Path) -> None:
    """It may import its neighbours, and the library of the built-in kinds by its full name."""
    write("mine/shared.py", "import rlhfc.stages.common.job\n")
    write("mine/fit/main.py", "import shared\nfrom .helper import x\n")
    write("mine/fit/helper.py", "x = 1\n")
    code = code_digests(kind_in(tmp_path / "mine/fit", tmp_path / "mine"), CachedDigester())
    assert {"fit/main.py", "fit/helper.py", "shared.py"} == {name for name in code if "stages/" not in name}
    assert "stages/common/job.py" in code


def test_an_edit_is_seen_and_a_comment_is_not(write: Write, tmp_path: Path) -> None:
    """Only what may run otherwise changes the code's digests, however deep it lies."""
    write("mine/deep.py", "x = 1\n")
    write("mine/fit/main.py", "import deep\n")
    kind = kind_in(tmp_path / "mine/fit", tmp_path / "mine")
    before = code_digests(kind, CachedDigester())
    write("mine/deep.py", "# one\nx = 1  # two\n")
    assert before == code_digests(kind, CachedDigester())
    write("mine/deep.py", "x = 3\n")
    after = code_digests(kind, CachedDigester())
    assert ["deep.py"] == [name for name in after if after[name] != before[name]]


def test_data_beside_the_code(write: Write, tmp_path: Path) -> None:
    """Files that the code may read count at any depth; caches, what is hidden and a README do not."""
    write("mine/fit/main.py", "")
    for name in (
        "table.json",
        "cards/deep/card.j2",
        "__pycache__/x.pyc",
        ".cache/y",
        "README.md",
        "un.py",
        "judge.md",
    ):
        write(f"mine/fit/{name}", name)
    found = code_digests(kind_in(tmp_path / "mine/fit", tmp_path / "mine"), CachedDigester())
    assert ["fit/cards/deep/card.j2", "fit/judge.md", "fit/main.py", "fit/table.json"] == sorted(found)


def test_code_that_is_not_python(write: Write, tmp_path: Path) -> None:
    """A syntax error is told with its place, not left out of the key."""
    path = write("mine/fit/main.py", "x = (\n")
    with pytest.raises(UserError) as caught:
        code_digests(kind_in(tmp_path / "mine/fit", tmp_path / "mine"), CachedDigester())
    (found,) = caught.value.diagnostics
    assert ("not valid Python: '(' was never closed", path, 1) == (
        found.message,
        found.mark and found.mark.file,
        found.mark and found.mark.line,
    )


def test_a_kind_without_main(tmp_path: Path) -> None:
    """Code that cannot be found is an error, never an empty key part."""
    (tmp_path / "fit").mkdir()
    with pytest.raises(UserError, match=r"kind `fit` has no `main\.py`"):
        code_digests(kind_in(tmp_path / "fit", tmp_path), CachedDigester())
