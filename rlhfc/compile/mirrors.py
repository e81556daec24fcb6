"""Mirrors: hub ids that stand for local copies, as machines without the hub need them."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlhfc.environment import Environment
from rlhfc.errors import Diagnostic, Mark, UserError
from rlhfc.observe import LOOKED

HUB_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$")
PACKAGE = "package:"
HUB_ID_HINT = "a hub id is `owner/name`"


@dataclass(frozen=True)
class Mirror:
    """One entry: what it says, who says it, and the folder that relative targets start from."""

    target: str
    said_by: str
    base: Path

    def locate(self) -> Path:
        """The folder or file that the target names.

        Raises:
            UserError: there is nothing there.
        """
        if self.target.startswith(PACKAGE):
            return self._in_package(self.target.removeprefix(PACKAGE))
        path = self.base / Path(self.target).expanduser()
        if not path.exists():
            raise self._error(f"mirror `{path}` does not exist")
        return path

    def _in_package(self, inside: str) -> Path:
        name, _, relative = inside.partition("/")
        parts = Path(relative).parts
        if not name.isidentifier() or not parts or ".." in parts or Path(relative).is_absolute():
            raise self._error(
                f"mirror `{self.target}` is malformed", "write `package:<import name>/<file inside>`"
            )
        # For a top-level name find_spec looks and imports nothing.
        found = importlib.util.find_spec(name)
        if found is None or not found.submodule_search_locations:
            raise self._error(
                f"package `{name}` of mirror `{self.target}` is not installed",
                "install the distribution that holds it",
            )
        for location in found.submodule_search_locations:
            sys.audit(LOOKED, Path(location) / relative)
            if (path := Path(location) / relative).exists():
                return path
        raise self._error(f"package `{name}` holds no `{relative}`, which mirror `{self.target}` names")

    def _error(self, message: str, hint: str | None = None) -> UserError:
        said = f"the mirror comes from {self.said_by}"
        return UserError(Diagnostic(message, hint=f"{hint}; {said}" if hint else said))


@dataclass(frozen=True)
class Mirrors:
    """Hub id to its mirror."""

    entries: Mapping[str, Mirror] = field(default_factory=dict)

    def find(self, hub_id: str) -> Mirror | None:
        """The mirror of a hub id, or None."""
        return self.entries.get(hub_id)


def read_mirrors(options: Sequence[str], environment: Environment, folder: Path) -> Mirrors:
    """Collect the mirrors: an option wins over the environment, that over the user's configuration.

    Args:
        options: values of ``--mirror``, each ``ID=TARGET``.
        environment: names the TOML files.
        folder: relative targets of options start here.

    Raises:
        UserError: an option or a file is malformed, or ``RLHFC_MIRROR`` names no file.
    """
    entries: dict[str, Mirror] = {}
    sys.audit(LOOKED, environment.user_configuration)
    if environment.user_configuration.is_file():
        file = environment.user_configuration
        entries.update(_from_file(file, f"`{file}`"))
    if environment.mirror_file is not None:
        file = environment.mirror_file
        entries.update(_from_file(file, f"`RLHFC_MIRROR`, file `{file}`"))
    for option in options:
        hub_id, equals, target = option.partition("=")
        if not equals or not target or not HUB_ID.fullmatch(hub_id):
            raise UserError(
                Diagnostic(f"malformed `--mirror {option}`", hint="write `--mirror OWNER/NAME=TARGET`")
            )
        entries[hub_id] = Mirror(target, f"`--mirror {option}`", folder)
    return Mirrors(entries)


def _from_file(file: Path, said_by: str) -> dict[str, Mirror]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(Diagnostic(f"cannot read {said_by}: {error.strerror}")) from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        place = re.search(r"at line (\d+), column (\d+)", str(error))
        mark = Mark(file, int(place[1]), int(place[2])) if place else Mark(file, 1, 1)
        raise UserError(Diagnostic(f"not valid TOML: {error}", mark)) from error
    table = content.get("mirror", {})
    if not isinstance(table, dict):
        raise UserError(
            Diagnostic(
                f"`mirror` in `{file}` is not a table",
                hint='write `[mirror]` and lines `"owner/name" = "target"`',
            )
        )
    for hub_id, target in table.items():
        if not isinstance(target, str) or not HUB_ID.fullmatch(hub_id):
            raise UserError(
                Diagnostic(f"malformed mirror `{hub_id}` in `{file}`", hint='write `"owner/name" = "target"`')
            )
    return {hub_id: Mirror(target, said_by, file.parent.absolute()) for hub_id, target in table.items()}
