"""Where things lie in a store, and whether a folder is one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rlhfc.errors import Diagnostic, UserError
from rlhfc.store.files import make_folder, write_atomic
from rlhfc.store.links import first_link

NAME = "rlhfc-store"
VERSION = 1
UNSAFE = re.compile(r"[^\w.-]|^\.+")  # in a file name made from a pipeline's name
NO_DIGIT = re.compile(r"[^0-9A-Za-z]")
STAT_CACHE = "stat-cache.json"
FOLDERS = (
    *("objects", "trees", "actions", "keydocs", "views", "work", "locks", "pins", "tags"),
    *("reports", "tmp", "quarantine"),
)


@dataclass(frozen=True)
class Layout:
    """Paths inside the store at ``root``. Nothing here touches the disk."""

    root: Path

    @property
    def version(self) -> Path:
        """File that says which format the store has."""
        return self.root / "VERSION"

    @property
    def ledger(self) -> Path:
        """Append-only record of runs."""
        return self.root / "ledger.jsonl"

    @property
    def scratch(self) -> Path:
        """Drafts, renamed away when they are complete."""
        return self.root / "tmp"

    def blob(self, digest: str) -> Path:
        """Read-only file with the bytes of ``digest``."""
        return self._fan_out("objects", digest, "")

    def tree(self, digest: str) -> Path:
        """Rows of path, size and digest."""
        return self._fan_out("trees", digest, ".json")

    def action(self, key: str) -> Path:
        """Record of what an action yielded."""
        return self._fan_out("actions", key, ".json")

    def document(self, key: str) -> Path:
        """Key document."""
        return self._fan_out("keydocs", key, ".json")

    def view(self, digest: str) -> Path:
        """Folder that stages read."""
        return self.root / "views" / hex_of(digest)

    def work(self, stage: str, key: str) -> Path:
        """Folder of the running action; survives attempts."""
        return self.root / "work" / f"{stage.replace('/', '_')}-{hex_of(key)[:12]}"

    def lock(self, key: str) -> Path:
        """Lock that saves two runs from computing one key twice."""
        return self.root / "locks" / hex_of(key)

    @property
    def leases(self) -> Path:
        """Says, where it is, that the store's locks are leases, and how long one lasts."""
        return self.root / "locks" / "leases"

    @property
    def pins(self) -> Path:
        """What living runs use: a file for each run."""
        return self.root / "pins"

    @property
    def tags(self) -> Path:
        """Results that have a name: a file for each name."""
        return self.root / "tags"

    def report(self, pipeline: str) -> Path:
        """HTML report of the newest run of a pipeline."""
        return self.root / "reports" / f"{UNSAFE.sub('_', pipeline)}.html"

    def _fan_out(self, folder: str, digest: str, suffix: str) -> Path:
        digits = hex_of(digest)
        return self.root / folder / digits[:2] / f"{digits[2:]}{suffix}"


def hex_of(digest: str) -> str:
    """Return the digits of ``b3:<digits>``, for file names."""
    return NO_DIGIT.sub("_", digest.removeprefix("b3:"))  # a damaged ledger may say anything


def check_version(root: Path) -> bool:
    """Whether ``root`` holds a store that this rlhfc can use; False when there is nothing yet.

    Raises:
        UserError: it is something else, or a store of another version.
    """
    try:
        text = _read_version(root)
        if text is None and _is_empty(root):
            return False
        # Another run may be making the store right now; it writes the version before all else.
        text = text or _read_version(root)
    except (NotADirectoryError, IsADirectoryError) as error:
        raise _refusal(f"`{root}` is not a store", "name a folder with `--store`") from error
    if text is None:
        raise _refusal(
            f"`{root}` is not a store: it has files but no `VERSION`",
            "name an empty or new folder with `--store`; if it was a store, `rlhfc fsck --repair` mends it",
        )
    name, _, number = text.partition(" ")
    if name != NAME or not number.isdecimal():
        raise _refusal(
            f"`{root / 'VERSION'}` is not one that rlhfc wrote: {text!r}",
            "if it was a store, `rlhfc fsck --repair` writes it again; else use another with `--store`",
        )
    if int(number) > VERSION:
        raise _refusal(
            f"the store `{root}` has version {number}, which is newer than this rlhfc: it uses {VERSION}",
            "use a newer rlhfc, or another folder with `--store`; nothing has been changed",
        )
    if int(number) < VERSION:
        raise _refusal(
            f"the store `{root}` has version {number}, which no rlhfc has written: the first is {VERSION}",
            "use another folder with `--store`; nothing has been changed",
        )
    return True


def create_store(root: Path) -> None:
    """Make the folders of a store, where they are missing.

    Raises:
        UserError: as :func:`check_version`, or the folder cannot be made.
    """
    try:
        if not check_version(root):
            make_folder(root)
            write_atomic(root / ".gitignore", b"*\n")
            write_atomic(root / "VERSION", f"{NAME} {VERSION}\n".encode())
        link = first_link(root)
        if link is not None:
            raise _refusal(
                f"`{link}` is a link, and a store holds none: it would have a run write elsewhere",
                "remove it, or name another folder with `--store`",
            )
        for folder in FOLDERS:
            make_folder(root / folder)
    except OSError as error:
        raise _refusal(
            f"cannot make the store `{root}`: {error.strerror}", "name another folder with `--store`"
        ) from error


def _read_version(root: Path) -> str | None:
    try:
        return (root / "VERSION").read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None


def _is_empty(root: Path) -> bool:
    """Names that begin with a dot are drafts of a store being made; a plan may leave its stat cache."""
    try:
        return all(path.name.startswith(".") or path.name == STAT_CACHE for path in root.iterdir())
    except FileNotFoundError:
        return True


def _refusal(message: str, hint: str) -> UserError:
    return UserError(Diagnostic(message, hint=hint))
