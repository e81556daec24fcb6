"""Key documents: everything that may change a result, and its digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlhfc.compile.action import Action, ResolvedSource
from rlhfc.compile.impacts import full, leaves
from rlhfc.compile.reasons import Reason, ReasonCode
from rlhfc.compile.render import masked_argv, masked_config
from rlhfc.compile.world import Libraries, major_minor
from rlhfc.kind import StageParams
from rlhfc.store.digest import tagged_digest

ACTION_TAG = b"rlhfc-action\0v1\0"


@dataclass(frozen=True)
class KeyDocument:
    """A decided key.

    Attributes:
        document: the pre-image; ``docs/architecture.md`` gives its form.
        key: ``b3:<hex>``.
        recorded: numeric and runtime values by dotted path, outside of the key, so that a later plan
            can say what differs without invalidating.
        origins: where values were written, by the same paths; outside of the key as well.
    """

    document: dict[str, Any]
    key: str
    recorded: dict[str, Any]
    origins: dict[str, str] = field(default_factory=dict)

    @property
    def stored(self) -> dict[str, Any]:
        """What the store keeps under ``keydocs/``."""
        return {"document": self.document, "recorded": self.recorded, "origins": self.origins}


@dataclass(frozen=True)
class Undecided:
    """A key that cannot be known yet or here.

    Attributes:
        reasons: one for each part that is missing.
        partial: the key document without those parts.
        recorded: as in :class:`KeyDocument`.
    """

    reasons: tuple[Reason, ...]
    partial: dict[str, Any]
    recorded: dict[str, Any]


def key_document(
    action: Action, outputs: Mapping[tuple[str, str], str], libraries: Libraries
) -> KeyDocument | Undecided:
    """Compute an action's key document, or say which parts of it are missing.

    Args:
        action: the stage.
        outputs: tree digest of each upstream output that is known, by stage and port.
        libraries: version of an installed distribution.

    Raises:
        UserError: the kind's launch template fails.
    """
    inputs, without_input = _inputs(action, outputs)
    versions, without_library = _libraries(action, libraries)
    document = {
        "kind": action.kind.name,
        "abi": action.kind.abi,
        "argv": masked_argv(action),
        "config": masked_config(action),
        "inputs": inputs,
        "code": dict(action.code),
        "libraries": {name: major_minor(version) for name, version in versions.items()},
    }
    recorded = _recorded(action, versions)
    missing = (*without_input, *without_library)
    if missing:
        return Undecided(missing, document, recorded)
    return KeyDocument(document, tagged_digest(ACTION_TAG, document), recorded, origins_in_key(action))


def _inputs(action: Action, outputs: Mapping[tuple[str, str], str]) -> tuple[dict[str, str], list[Reason]]:
    known: dict[str, str] = {}
    missing = []
    for address, binding in action.inputs.items():
        if isinstance(binding, ResolvedSource):
            digest, code, why = binding.digest, ReasonCode.SOURCE_UNRESOLVED, binding.unresolved
        else:
            digest = outputs.get((binding.stage, binding.port))
            code, why = ReasonCode.UPSTREAM_PENDING, f"{binding.stage}.{binding.port}"
        if digest is None:
            missing.append(Reason(code, address, after=why))
        else:
            known[address] = digest
    return known, missing


def _libraries(action: Action, libraries: Libraries) -> tuple[dict[str, str], list[Reason]]:
    found = {name: libraries(name) for name in action.kind.libraries}
    missing = [Reason(ReasonCode.LIBRARY_MISSING, name) for name, version in found.items() if version is None]
    return {name: version for name, version in found.items() if version is not None}, missing


def _recorded(action: Action, versions: Mapping[str, str]) -> dict[str, Any]:
    recorded = _not_semantic(action.params, "params")
    recorded["params.device"] = action.device
    for address, source in action.settings.items():
        recorded |= _not_semantic(source.params, f"settings.{address}")
    return recorded | {f"libraries.{name}": version for name, version in versions.items()}


def origins_in_key(action: Action) -> dict[str, str]:
    """Where values are written: ``params.kl_coef``, ``settings.engines.actor.dtype`` to their origins."""
    found = {f"params.{path}": origin for path, origin in action.origins.items()}
    for address, source in action.settings.items():
        found |= {f"settings.{address}.{path}": origin for path, origin in source.origins.items()}
    return found


def _not_semantic(params: StageParams, prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}.{leaf.address}": full(leaf)
        for leaf in leaves(params)
        if leaf.impact in ("numeric", "runtime")
    }
