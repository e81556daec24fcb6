"""Key documents: everything that may change a result, and its digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlhfc.compile.action import Action, ResolvedSource
from rlhfc.compile.impacts import full, leaves
from rlhfc.compile.reasons import Reason, ReasonCode
from rlhfc.compile.render import keyed_config, masked_argv
from rlhfc.compile.world import Libraries
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
        document: the key document without those parts.
        recorded: as in :class:`KeyDocument`.
    """

    reasons: tuple[Reason, ...]
    document: dict[str, Any]
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
    recorded = _recorded(action, libraries)
    document = {
        "kind": action.kind.name,
        "abi": action.kind.abi,
        "argv": masked_argv(action),
        "config": keyed_config(action),
        "inputs": inputs,
        "code": dict(action.code),
        "libraries": versions,
    }
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
    policy = action.libraries
    found = {name: libraries(name) for name in policy.keyed(action.kind.libraries)}
    missing = [Reason(ReasonCode.LIBRARY_MISSING, name) for name, version in found.items() if version is None]
    shown = {name: policy.shown(version) for name, version in found.items() if version is not None}
    return {**shown, **policy.put_back}, missing


def _recorded(action: Action, libraries: Libraries) -> dict[str, Any]:
    versions = {name: libraries(name) for name in action.libraries.recorded(action.kind.libraries)}
    recorded = _not_semantic(action.params, "params")
    recorded["params.device"] = action.device
    for address, source in action.settings.items():
        read = action.kind.reads_settings[address]
        prefix = f"settings.{address}"
        recorded |= {
            path: value
            for path, value in _not_semantic(source.params, prefix).items()
            if any(f"{path}.".startswith(f"{prefix}.{field}.") for field in read)
        }
    return recorded | {f"libraries.{name}": version for name, version in versions.items() if version}


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
