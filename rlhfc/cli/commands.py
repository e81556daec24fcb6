"""The commands there are; standard library only, for ``--help`` and completion."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from rlhfc.cli import arguments


@dataclass(frozen=True)
class Command:
    """A command: the module that does it, one line about it, and what adds its arguments to a parser."""

    module: str
    summary: str
    configure: Callable[[argparse.ArgumentParser], None]


def _command(name: str, summary: str) -> Command:
    return Command(f"rlhfc.cli.{name}", summary, getattr(arguments, name))


COMMANDS = {
    "init": _command("init", "write a first pipeline into an empty folder"),
    "plan": _command("plan", "show what would run, and why"),
    "explain": _command("explain", "tell why a stage is cached or not, value by value"),
    "run": _command("run", "run what is not done yet"),
    "push": _command("push", "send results to a shared store"),
    "pull": _command("pull", "take results from a shared store"),
    "status": _command("status", "show where every stage stands, also while it runs"),
    "show": _command("show", "show a stage: result, artefacts, attempts, log, metrics"),
    "data": _command("data", "show rows token by token, with what is learnt of them"),
    "accept": _command("accept", "let a stage's last result stand for what the spec says now"),
    "tag": _command("tag", "name a result, which is then kept; list the names"),
    "gc": _command("gc", "remove what nobody needs from the store"),
    "history": _command("history", "list runs and acceptances, the newest first"),
    "diff": _command("diff", "tell what differs between two runs or two specs"),
    "config": _command("config", "print the spec with all defaults, and where each value is from"),
    "graph": _command("graph", "draw the stages and their states as Mermaid, DOT or SVG"),
    "report": _command("report", "write the HTML report of a pipeline"),
    "fsck": _command("fsck", "look at every file of a store, and repair what is damaged"),
    "trust": _command("trust", "say that the code in a folder may run"),
    "schema": _command("schema", "write the JSON Schemas of a spec and of a plan"),
    "completion": _command("completion", "print a shell's completion script"),
}
