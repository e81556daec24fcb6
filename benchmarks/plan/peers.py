"""The same small graph for ninja, doit, DVC and Snakemake: chains of copies, all of them up to date."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CHAIN = 100  # stages that follow each other; then a new chain begins


@dataclass(frozen=True)
class Peer:
    """A tool: how its project is written, how it is brought up to date, what is measured."""

    name: str
    write: Callable[[Path, int], None]
    prepare: tuple[str, ...]
    ask: tuple[str, ...]
    largest: int


def links(stages: int) -> Iterator[tuple[str, str]]:
    """Input and output of each stage."""
    for number in range(stages):
        yield ("rows" if number % CHAIN == 0 else f"out{number - 1}"), f"out{number}"


def write_ninja(folder: Path, stages: int) -> None:
    """One rule, one edge a stage."""
    edges = (f"build {made}: copy {read}" for read, made in links(stages))
    (folder / "build.ninja").write_text("\n".join(["rule copy", "  command = cp $in $out", *edges, ""]))


def write_doit(folder: Path, stages: int) -> None:
    """One task generator."""
    (folder / "dodo.py").write_text(
        "def task_copy():\n"
        f"    for read, made in {list(links(stages))!r}:\n"
        "        yield {'name': made, 'file_dep': [read], 'targets': [made],\n"
        "               'actions': [f'cp {read} {made}']}\n"
    )


def write_dvc(folder: Path, stages: int) -> None:
    """One stage each in `dvc.yaml`."""
    subprocess.run([*tool("dvc"), "init", "-q", "--no-scm"], cwd=folder, check=True)
    lines = ["stages:"]
    for read, made in links(stages):
        lines += [f"  {made}:", f"    cmd: cp {read} {made}", f"    deps: [{read}]", f"    outs: [{made}]"]
    (folder / "dvc.yaml").write_text("\n".join(lines) + "\n")


def write_snakemake(folder: Path, stages: int) -> None:
    """One rule a stage, as its users write them."""
    rules = [f"rule all:\n    input: 'out{stages - 1}'\n"]
    for read, made in links(stages):
        rules.append(
            f"rule {made}:\n    input: '{read}'\n    output: '{made}'\n    shell: 'cp {{input}} {{output}}'\n"
        )
    (folder / "Snakefile").write_text("\n".join(rules))


PEERS = (
    Peer("ninja -n", write_ninja, ("ninja",), ("ninja", "-n"), 10_000),
    Peer("doit list --status", write_doit, ("doit", "-v0"), ("doit", "list", "--all", "-s"), 10_000),
    Peer("dvc status", write_dvc, ("dvc", "repro", "-q"), ("dvc", "status", "-q"), 100),
    Peer("snakemake -n", write_snakemake, ("snakemake", "-q", "-c1"), ("snakemake", "-n", "-q"), 100),
)


def tool(name: str) -> list[str]:
    """Command of an installed tool.

    Raises:
        FileNotFoundError: it is not in the folder that `RLHFC_BENCH_BIN` names.
    """
    path = Path(os.environ["RLHFC_BENCH_BIN"]) / name
    if not path.is_file():
        raise FileNotFoundError(f"no `{path}`: `make bench-plan` installs it")
    return [str(path)]


def up_to_date(peer: Peer, folder: Path, stages: int) -> list[str]:
    """Write the project, bring it up to date, and return the command that finds nothing to do."""
    folder.mkdir(parents=True)
    (folder / "rows").write_text("{}\n")
    peer.write(folder, stages)
    command, *options = peer.prepare
    subprocess.run([*tool(command), *options], cwd=folder, check=True, capture_output=True)
    asked, *options = peer.ask
    return [*tool(asked), *options]
