"""Processes of attempts that live, for all tests that kill runs."""

from pathlib import Path


def attempt_processes(folder: Path) -> list[int]:
    """Find the processes of attempts below a folder, by what their environment says."""
    mine = f"RLHFC_ATTEMPT={folder}/".encode()
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdecimal() and mine in (path / "environ").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found
