"""Sources: what they hold, where a mirror points, and what cannot be known here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench import Bench

from rlhfc.compile.action import ResolvedSource
from rlhfc.compile.digests import CachedDigester
from rlhfc.compile.mirrors import Mirrors, read_mirrors
from rlhfc.compile.sources import resolve_source
from rlhfc.environment import read_environment
from rlhfc.errors import UserError
from rlhfc.kind import InputModel

Write = Callable[[str, str], Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


def resolve(bench: Bench, accepted: str = "model", **given: Any) -> ResolvedSource:
    """Resolve one source of the bench's folder."""
    return resolve_source(InputModel(**given), accepted, bench.folder, bench.world)


def mirrors(tmp_path: Path, *options: str, **variables: str) -> Mirrors:
    """Mirrors of a user whose configuration lies in the test's folder."""
    environment = read_environment({"XDG_CONFIG_HOME": str(tmp_path / "config"), **variables})
    return read_mirrors(options, environment, tmp_path)


def test_a_folder_and_a_file(bench: Bench) -> None:
    """A folder is known by its tree, a file by its bytes; of a file the folder and the name are kept."""
    digests = CachedDigester()
    tiny, rows = bench.folder / "tiny", bench.folder / "rows.jsonl"
    assert ResolvedSource("path:tiny", digests.folder(tiny), tiny) == resolve(bench, path="tiny")
    assert ResolvedSource("path:rows.jsonl", digests.file(rows), bench.folder, "rows.jsonl") == resolve(
        bench, "data", path="rows.jsonl"
    )


def test_one_file_inside_a_folder(bench: Bench, write: Write) -> None:
    """A GGUF file is the same model whether it is named alone or inside its folder."""
    path = write("quants/a.gguf", "weights")
    write("quants/b.gguf", "others")
    inside = resolve(bench, path="quants", file="a.gguf")
    assert ResolvedSource("path:quants", CachedDigester().file(path), path.parent, "a.gguf") == inside
    alone = resolve(bench, path="quants/a.gguf")
    assert (inside.digest, inside.path, inside.file) == (alone.digest, alone.path, alone.file)


@pytest.mark.parametrize(
    ("given", "accepted", "message"),
    [
        ({"path": "nowhere"}, "model", r"`.*/nowhere` does not exist"),
        ({"path": "tiny/config.json"}, "model", "`config.json` has a suffix that is not known for model"),
        ({"path": "judge.py"}, "data", "`judge.py` has a suffix that is not known for data"),
        ({"path": "rows.jsonl"}, "prompts", r"`.*/rows.jsonl` is a file where a folder is needed"),
        ({"path": "tiny", "file": "a.gguf"}, "model", r"`.*/tiny` holds no file `a.gguf`"),
        ({"path": "tiny", "file": "../judge.py"}, "model", "`file: ../judge.py` leads out of its folder"),
        ({"path": "judge.py", "file": "a.gguf"}, "model", "`file: a.gguf` needs a folder"),
        ({"hub": "a/b/c"}, "model", "`a/b/c` is not a hub id"),
        ({"hub": "../b"}, "model", r"`\.\./b` is not a hub id"),
        ({"hub": "a/b", "revision": "../x"}, "model", r"`\.\./x` is not a commit, tag or branch"),
    ],
)
def test_sources_that_are_wrong(given: dict[str, str], accepted: str, message: str, bench: Bench) -> None:
    """What cannot be read stops compilation with the path or the id."""
    with pytest.raises(UserError, match=message):
        resolve(bench, accepted, **given)


def test_a_pinned_commit_needs_no_hub(bench: Bench) -> None:
    """40 hex digits say what a repository holds; a file of it is told from the others."""
    assert ResolvedSource(f"hub:a/b@{COMMIT}", f"hub:{COMMIT}", hub=("a/b", COMMIT)) == resolve(
        bench, hub="a/b", revision=COMMIT
    )
    assert f"hub:{COMMIT}/x.gguf" == resolve(bench, hub="a/b", revision=COMMIT, file="x.gguf").digest


@pytest.mark.parametrize(("accepted", "folder"), [("model", "models--a--b"), ("data", "datasets--a--b")])
def test_the_local_cache_knows_branches(accepted: str, folder: str, bench: Bench, write: Write) -> None:
    """What was downloaded has a commit under `refs`: of models and data sets apart."""
    write(f"hub/{folder}/refs/main", COMMIT)
    write(f"hub/{folder}/refs/v1.0", OTHER)
    assert ResolvedSource("hub:a/b", f"hub:{COMMIT}", hub=("a/b", COMMIT)) == resolve(
        bench, accepted, hub="a/b"
    )
    assert f"hub:{OTHER}" == resolve(bench, accepted, hub="a/b", revision="v1.0").digest
    other = "data" if accepted == "model" else "model"
    assert resolve(bench, other, hub="a/b").digest is None


def test_an_unknown_revision_says_how_to_pin_it(bench: Bench, write: Write) -> None:
    """Without hub, cache and mirror the source stays unresolved, with the two ways out."""
    write("hub/models--a--b/refs/main", "not a commit")
    assert ResolvedSource(
        "hub:a/b",
        None,
        hub=("a/b", "main"),
        unresolved="the newest commit of `a/b` is not known here: pin it with `revision:` (40 hex digits) "
        "or use `--mirror a/b=FOLDER`",
    ) == resolve(bench, hub="a/b")


def test_option_over_environment_over_configuration(tmp_path: Path, write: Write) -> None:
    """The nearer to the command, the stronger; ids that only one place names are all there."""
    write("config/rlhfc/config.toml", '[mirror]\n"o/x" = "c"\n"o/y" = "c"\n"o/z" = "c"\n')
    variable = str(write("env/mirror.toml", '[mirror]\n"o/x" = "e"\n"o/y" = "e"\n'))
    found = mirrors(tmp_path, "o/x=t", RLHFC_MIRROR=variable)
    assert {
        "o/x": ("t", tmp_path),
        "o/y": ("e", tmp_path / "env"),
        "o/z": ("c", tmp_path / "config/rlhfc"),
    } == {name: (mirror.target, mirror.base) for name, mirror in found.entries.items()}


def test_a_mirror_gives_the_key_of_its_content(bench: Bench, all_kinds: str) -> None:
    """A hub id with a mirror, and the same folder named by its path, are one and the same input."""
    mirrored = bench.on(mirrors=mirrors(bench.folder, "o/tiny=tiny", "o/rows=rows.jsonl"))
    as_hub = all_kinds.replace("{path: tiny}", "{hub: o/tiny}").replace("{path: rows.jsonl}", "{hub: o/rows}")
    assert all_kinds != as_hub
    assert bench.keys(all_kinds) == mirrored.keys(as_hub)


def test_package_data_as_a_mirror(bench: Bench, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file inside an installed package is found without importing the package."""
    write("site/boom/__init__.py", "raise RuntimeError\n")
    path = write("site/boom/weights/a.gguf", "weights")
    monkeypatch.syspath_prepend(str(bench.folder / "site"))
    mirrored = bench.on(mirrors=mirrors(bench.folder, "o/m=package:boom/weights/a.gguf"))
    assert ResolvedSource("hub:o/m", CachedDigester().file(path), path.parent, "a.gguf") == resolve(
        mirrored, hub="o/m", file="ignored.gguf"
    )


@pytest.mark.parametrize(
    ("target", "message", "hint"),
    [
        ("gone", "mirror `{folder}/gone` does not exist", "the mirror comes from `--mirror o/m=gone`"),
        (
            "package:no_such_package/a",
            "package `no_such_package` of mirror `package:no_such_package/a` is not installed",
            "install the distribution that holds it; the mirror comes from "
            "`--mirror o/m=package:no_such_package/a`",
        ),
        (
            "package:json/a.gguf",
            "package `json` holds no `a.gguf`, which mirror `package:json/a.gguf` names",
            "the mirror comes from `--mirror o/m=package:json/a.gguf`",
        ),
        (
            "package:json/../a",
            "mirror `package:json/../a` is malformed",
            "write `package:<import name>/<file inside>`; the mirror comes from "
            "`--mirror o/m=package:json/../a`",
        ),
    ],
)
def test_mirrors_that_lead_nowhere(target: str, message: str, hint: str, bench: Bench) -> None:
    """A mirror that is used must be there, and the message says who named it."""
    with pytest.raises(UserError) as caught:
        resolve(bench.on(mirrors=mirrors(bench.folder, f"o/m={target}")), hub="o/m")
    (found,) = caught.value.diagnostics
    assert (message.format(folder=bench.folder), hint) == (found.message, found.hint)


@pytest.mark.parametrize("option", ["o/m", "=x", "o/m=", "o m=x", "a/b/c=x"])
def test_malformed_options(option: str, tmp_path: Path) -> None:
    """An option that is no pair is refused, not ignored."""
    with pytest.raises(UserError, match=f"malformed `--mirror {option}`"):
        mirrors(tmp_path, option)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mirror\n", "not valid TOML"),
        ("mirror = 3\n", "`mirror` in `.*` is not a table"),
        ('[mirror]\n"o/m" = 3\n', "malformed mirror `o/m` in `.*`"),
    ],
)
def test_malformed_files(text: str, message: str, tmp_path: Path, write: Write) -> None:
    """A configuration that is wrong is told, whether it is needed or not."""
    with pytest.raises(UserError, match=message):
        mirrors(tmp_path, RLHFC_MIRROR=str(write("m.toml", text)))


def test_a_missing_mirror_file(tmp_path: Path) -> None:
    """A variable that names no file is a mistake; a configuration need not exist."""
    assert {} == mirrors(tmp_path).entries
    with pytest.raises(UserError, match=r"cannot read `RLHFC_MIRROR`, file `.*/gone.toml`: No such file"):
        mirrors(tmp_path, RLHFC_MIRROR=str(tmp_path / "gone.toml"))
