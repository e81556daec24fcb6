"""From a valid spec to actions: sources found, batches divided, code digested; all errors at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rlhfc.compile.action import Action, Batch, Pipeline, ResolvedSource, UpstreamOutput
from rlhfc.compile.batch import BatchError, batch_of
from rlhfc.compile.code import code_digests
from rlhfc.compile.contents import Vocabularies, missing_columns
from rlhfc.compile.deepspeed import HARMLESS, engine_params, refused_entries
from rlhfc.compile.impacts import declared_leaves, full, leaves
from rlhfc.compile.secrets import secrets_in
from rlhfc.compile.sources import resolve_source
from rlhfc.compile.world import World
from rlhfc.errors import Diagnostic, Mark, UserError, did_you_mean
from rlhfc.kind import InputModel
from rlhfc.spec.inputs import inputs_of, type_of_input
from rlhfc.spec.load import PipelineSpec, StageSpec
from rlhfc.spec.origins import origins_of
from rlhfc.store.digest import canonical_json
from rlhfc.trust import Trust

Binding = UpstreamOutput | ResolvedSource
CODE = "code"  # type of an input that a stage runs


def compile_pipeline(spec: PipelineSpec, world: World) -> Pipeline:
    """Turn every stage of a spec into an action.

    Raises:
        UserError: with a diagnostic and its place for everything that is wrong: a path that leads
            nowhere, a file of the wrong form, a malformed hub id or mirror, a batch that does not
            divide, a DeepSpeed entry that the spec has a field for, code that is missing.
    """
    compiler = _Compiler(spec, world)
    actions: dict[str, Action] = {}
    for stage in spec.stages.values():
        actions[stage.name] = compiler.action(stage, actions)
    if compiler.diagnostics:
        # Variants of a stage share their mistakes.
        raise UserError(sorted(dict.fromkeys(compiler.diagnostics), key=_position))
    return Pipeline(spec.name, spec.path, actions, spec.files, spec.secrets)


def _position(diagnostic: Diagnostic) -> tuple[str, int, int]:
    mark = diagnostic.mark
    return (str(mark.file), mark.line, mark.column) if mark else ("", 0, 0)


def device_of(stage: StageSpec, gpus: int) -> Literal["cpu", "gpu"]:
    """What ``device`` comes to. A kind that does not use DeepSpeed leaves GPUs to those that do."""
    asked = stage.params.device
    if asked != "auto":
        return asked
    return "gpu" if gpus > 0 and "deepspeed" in stage.loaded.kind.libraries else "cpu"


class _Compiler:
    """Gathers what is wrong while the actions are made."""

    def __init__(self, spec: PipelineSpec, world: World) -> None:
        self.spec = spec
        self.world = world
        self.diagnostics: list[Diagnostic] = []
        self._code: dict[str, Mapping[str, str]] = {}
        self._vocabularies = Vocabularies()

    def action(self, stage: StageSpec, done: Mapping[str, Action]) -> Action:
        """Make one action; where a part is wrong it is left empty and a diagnostic is kept."""
        device = device_of(stage, self.world.gpus)
        inputs = dict(self._inputs(stage))
        self.diagnostics.extend(_unfit_leaves(stage))
        self.diagnostics.extend(_engine_faults(stage, inputs, device, self.world.trust))
        settings = {
            address: done[binding.stage]
            for address, binding in inputs.items()
            if isinstance(binding, UpstreamOutput)
            and address in stage.loaded.kind.reads_settings
            and done[binding.stage].kind.exposes_settings
        }
        self.diagnostics.extend(_unknown_settings(stage, settings))
        action = Action(
            pipeline=self.spec.name,
            stage=stage.name,
            loaded=stage.loaded,
            params=stage.params,
            inputs=inputs,
            batch=self._batch(stage),
            device=device,
            settings=settings,
            code=self._code_of(stage),
            file=stage.mark.file.absolute(),
            variant=stage.variant,
            secrets=_secrets(stage, settings),
            line=stage.mark.line,
            libraries=self.spec.libraries,
            places={name: stage.locate((name,)) for name in ("frozen", "pin")},
            origins=origins_of(stage, self.spec.path.parent),
        )
        self.diagnostics.extend(missing_columns(stage, action))
        self.diagnostics.extend(self._vocabularies.check(stage, action))
        return action

    def _inputs(self, stage: StageSpec) -> Iterator[tuple[str, Binding]]:
        for address, given in inputs_of(stage.params).items():
            path = tuple(address.split("."))
            try:
                folder = stage.folder_of((*path, "path"), self.spec.path).absolute()
                binding = self._bind(given, type_of_input(address, stage.loaded.kind.inputs) or "", folder)
            except UserError as error:
                origin = "path" if given.path is not None else "hub"
                self._keep(error, stage.locate((*path, origin)), f"{stage.called}.{address}: ")
            else:
                yield address, binding

    def _bind(self, given: InputModel, accepted: str, folder: Path) -> Binding:
        if given.ref is None:
            source = resolve_source(given, accepted, folder, self.world)
            self._refuse_code(source, accepted)
            return source
        if given.file is not None:
            raise UserError(Diagnostic("`file` goes with `path:` or `hub:`, not with a reference"))
        stage, _, port = given.ref.rpartition(".")
        return UpstreamOutput(stage, port)

    def _refuse_code(self, source: ResolvedSource, accepted: str) -> None:
        """Let a stage be given code only where this user trusts it.

        Raises:
            UserError: nobody has said that it may run.
        """
        if accepted != CODE:
            return
        if source.path is None:
            message = f"`{source.origin}` is code of the hub, which nobody here has read"
            raise UserError(Diagnostic(message, hint="download it, read it, and name it with `path:`"))
        place = source.path / source.file if source.file is not None else source.path
        fault = self.world.trust.code_fault(place, source.origin.partition(":")[2])
        if fault is not None:
            raise UserError(fault)

    def _batch(self, stage: StageSpec) -> Batch | None:
        try:
            return batch_of(stage.params)
        except BatchError as error:
            # The numbers that clash may be defaults: point at one that is written out.
            written = (stage.locate((name,)) for name in (error.field, "ranks"))
            mark = next((mark for mark in written if mark != stage.mark), stage.mark)
            self._keep(error, mark, f"{stage.called}: ")
            return None

    def _code_of(self, stage: StageSpec) -> Mapping[str, str]:
        kind = stage.loaded.kind.name
        if kind not in self._code:
            self._code[kind] = {}
            try:
                self._code[kind] = code_digests(stage.loaded, self.world.digests, self.world.trust)
            except UserError as error:
                self._keep(error, stage.locate(("kind",)))
        return self._code[kind]

    def _keep(self, error: UserError, mark: Mark, prefix: str = "") -> None:
        self.diagnostics.extend(
            replace(found, message=prefix + found.message, mark=found.mark or mark)
            for found in error.diagnostics
        )


def _secrets(stage: StageSpec, settings: Mapping[str, Action]) -> dict[str, Mark]:
    """Its own and those in the settings that it is handed; the first place of each."""
    own = {name: stage.locate(path) for path, name in reversed([*secrets_in(stage.params)])}
    return {name: mark for source in settings.values() for name, mark in source.secrets.items()} | own


def _unfit_leaves(stage: StageSpec) -> Iterator[Diagnostic]:
    """Values without a canonical encoding: numbers beyond all bounds, keys that are no text."""
    for leaf in leaves(stage.params):
        value = full(leaf)
        try:
            exact = json.loads(canonical_json(value)) == value
        except (ValueError, TypeError):
            exact = False
        if not exact:
            message = f"{stage.called}.{leaf.address}: {leaf.value!r} cannot be written down exactly"
            yield Diagnostic(message, stage.locate(leaf.path), "use finite numbers")


def _unknown_settings(stage: StageSpec, settings: Mapping[str, Action]) -> Iterator[Diagnostic]:
    """Fields that the kind reads of another stage's settings, and that are not there."""
    for address, source in settings.items():
        known = [path for path, _ in declared_leaves(type(source.params))]
        for field in stage.loaded.kind.reads_settings[address]:
            if not any(f"{path}.".startswith(f"{field}.") for path in known):
                message = (
                    f"{stage.name}.{address}: kind `{stage.loaded.kind.name}` reads `{field}` of what "
                    f"stage `{source.stage}` is set to, and kind `{source.kind.name}` has no such field"
                )
                hint = did_you_mean(field, known, f"fields of `{source.kind.name}`")
                yield Diagnostic(message, stage.locate(tuple(address.split("."))), hint)


def _engine_faults(
    stage: StageSpec, inputs: Mapping[str, Binding], device: Literal["cpu", "gpu"], trust: Trust
) -> Iterator[Diagnostic]:
    """What is wrong with the engines that a stage sets up itself."""
    for dotted in stage.loaded.kind.engines.values():
        path = tuple(dotted.split(".")) if dotted else ()
        if path and path[0] in inputs:
            continue  # checked where the parameters are
        engine = engine_params(stage.params, {}, dotted)
        for entry, found in refused_entries(engine.deepspeed):
            at = stage.locate((*path, "deepspeed", *entry.split(".")))
            yield replace(found, message=f"{stage.called}: {found.message}", mark=at)
        for entry in engine.deepspeed.keys() - HARMLESS:
            said = f"{stage.called}: `{entry}` of the DeepSpeed config may run code or write files anywhere"
            untrusted = trust.author_fault(stage.locate((*path, "deepspeed", entry)), said)
            yield from (untrusted,) if untrusted is not None else ()
        if engine.dtype == "fp16" and device == "cpu" and stage.params.device == "auto":
            message = (
                f"{stage.called}: `fp16` does not train on the CPU, "
                "which is what `device: auto` comes to here"
            )
            hint = "set `device: gpu` to plan for another machine, or `dtype` to `bf16` or `fp32`"
            yield Diagnostic(message, stage.locate((*path, "dtype")), hint)
