"""``rlhfc init``: a first pipeline and data to try it on."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from string import Template

from rlhfc.errors import Diagnostic, UserError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_CAPITALS = {
    "Austria": "Vienna", "Belgium": "Brussels", "Bulgaria": "Sofia", "Canada": "Ottawa", "Chile": "Santiago",
    "Croatia": "Zagreb", "Cuba": "Havana", "Denmark": "Copenhagen", "Egypt": "Cairo", "Finland": "Helsinki",
    "France": "Paris", "Germany": "Berlin", "Ghana": "Accra", "Greece": "Athens", "Hungary": "Budapest",
    "Iceland": "Reykjavik", "Ireland": "Dublin", "Italy": "Rome", "Japan": "Tokyo", "Kenya": "Nairobi",
    "Latvia": "Riga", "Nepal": "Kathmandu", "Norway": "Oslo", "Peru": "Lima", "Poland": "Warsaw",
    "Portugal": "Lisbon", "Romania": "Bucharest", "Spain": "Madrid", "Sweden": "Stockholm",
    "Uruguay": "Montevideo",
}  # fmt: skip
_OPPOSITES = {
    "big": "small", "bright": "dark", "cheap": "expensive", "clean": "dirty", "deep": "shallow", "dry": "wet",
    "early": "late", "easy": "hard", "empty": "full", "fast": "slow", "heavy": "light", "high": "low",
    "hot": "cold", "loud": "quiet", "narrow": "wide", "new": "old", "near": "far", "open": "closed",
    "rich": "poor", "rough": "smooth", "sharp": "blunt", "sick": "healthy", "soft": "hard", "strong": "weak",
    "sweet": "sour", "tall": "short", "thick": "thin", "true": "false", "warm": "cool", "young": "old",
}  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Write ``pipeline.yaml`` and ``data/pairs.jsonl``, and say what comes next.

    Raises:
        UserError: one of them is there already, or ``--model`` names nothing.
    """
    folder: Path = arguments.folder
    template = files("rlhfc.cli").joinpath("init_pipeline.yaml").read_text(encoding="utf-8")
    texts = {
        folder / "pipeline.yaml": Template(template).substitute(model=_source(arguments.model)),
        folder / "data" / "pairs.jsonl": "".join(json.dumps(row) + "\n" for row in pairs()),
    }
    taken = [path for path in texts if path.exists()]
    if taken:
        hint = "name another folder: `rlhfc init DIR`"
        raise UserError(Diagnostic(f"`{path}` is there already", hint=hint) for path in taken)
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(Diagnostic(f"cannot write `{path}`: {error.strerror}")) from error
        print(f"wrote {path}")
    enter = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    print(f"next: {enter}rlhfc plan pipeline.yaml")
    return 0


def pairs() -> Iterator[dict[str, str]]:
    """Questions with a friendly and a curt answer, the same rows every time."""
    close = "Is there anything else you would like to know?"
    for first in range(2, 12):
        for second in range(3, 15):
            total = str(first + second)
            said = f"{first} plus {second} is {total}. {close}"
            yield {"question": f"What is {first} plus {second}?", "friendly": said, "curt": total}
    for country, city in _CAPITALS.items():
        said = f"The capital of {country} is {city}. {close}"
        yield {"question": f"What is the capital of {country}?", "friendly": said, "curt": city}
    for word, other in _OPPOSITES.items():
        said = f'The opposite of "{word}" is "{other}". {close}'
        yield {"question": f'What is the opposite of "{word}"?', "friendly": said, "curt": other}


def _source(model: str) -> str:
    """The YAML of a model: a path where there is one, else a hub id.

    Raises:
        UserError: it is neither.
    """
    path = Path(model).expanduser()
    if path.exists():
        return json.dumps({"path": str(path.resolve())}, ensure_ascii=False)
    if not _HUB_ID.fullmatch(model) or model.startswith((".", "~")):
        hint = "give a folder, a GGUF file or a hub id `owner/name`"
        raise UserError(Diagnostic(f"`--model {model}` does not exist", hint=hint))
    return f"{{hub: {model}}}"
