"""A user at work: writes a spec, types commands, reads what they print."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rlhfc.cli.main import main

KINDS = Path(__file__).parents[1] / "run" / "kinds"
SPEC = """\
schema: 1
kinds: [kinds]
defaults: {log_every: 5}
stages:
  first: {kind: toy, value: 1, steps: 2}
  second:
    kind: toy
    left: first.thing
    value: 2
"""
VOLATILE = (
    (re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}"), "RUN"),
    (re.compile(r"\b(b3|hub):[0-9a-f]{8,64}"), "DIGEST"),
    (re.compile(r"\d+\.\d s\b|\b\d+ s\b"), "TIME"),
)


@dataclass
class Story:
    """One folder, the working directory, with `pipe.yaml` and a store; what is printed is remembered."""

    folder: Path
    capture: pytest.CaptureFixture[str]
    names: dict[str, str] = field(default_factory=dict)

    @property
    def spec(self) -> Path:
        """The pipeline."""
        return self.folder / "pipe.yaml"

    def edit(self, old: str, new: str, file: str = "pipe.yaml") -> None:
        """Replace a piece of text, which is there once."""
        path = self.folder / file
        text = path.read_text()
        assert 1 == text.count(old)
        path.write_text(text.replace(old, new))

    def run(self, *options: str) -> None:
        """Run the pipeline; every stage is done afterwards."""
        assert 0 == main(["run", "pipe.yaml", "--quiet", *options])
        self.capture.readouterr()

    def type(self, *words: str, status: int = 0) -> str:
        """What a command prints on stdout."""
        assert status == main(list(words))
        return self.capture.readouterr().out

    def lines(self, *words: str, status: int = 0) -> list[str]:
        """The same line by line; runs, digests and times are named in the order in which they appear."""
        return self.named(self.type(*words, status=status)).splitlines()

    def refused(self, *words: str) -> str:
        """What a command that is wrong says on stderr."""
        assert 1 == main(list(words))
        return self.capture.readouterr().err

    def named(self, text: str) -> str:
        """Text with a lasting name for what is another each time."""
        for pattern, name in VOLATILE:
            text = pattern.sub(lambda found, name=name: self._name(found[0], name), text)
        return text

    def _name(self, found: str, name: str) -> str:
        if name == "TIME":
            return name
        count = sum(known.startswith(name) for known in self.names.values())
        return self.names.setdefault(found, f"{name}{count}")


def make_story(folder: Path, capture: pytest.CaptureFixture[str]) -> Story:
    """A pipeline that never ran."""
    (folder / "kinds").mkdir()
    for file in (KINDS / "toy").glob("*.*"):
        (folder / "kinds" / "toy").mkdir(exist_ok=True)
        (folder / "kinds" / "toy" / file.name).write_bytes(file.read_bytes())
    (folder / "pipe.yaml").write_text(SPEC)
    return Story(folder, capture)
