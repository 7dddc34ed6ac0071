"""What has been renamed: so that the run folders and cells of before stay readable when a module, class or field moves.

    "arch.stacks": "arch.stacks.sequential"                            a module, itself alone
    "arch.residual.*": "arch.blocks.*"                                 all modules of a package, to a new one
    "arch.blocks:PreNorm": "arch.blocks.pre_norm:PreNorm"              a class
    "arch.layers.attention:Attention.kv_heads": "groups"               a field, of a class by any name it has had

One entry a move, never changed afterwards; entries follow one another (a -> b, then b -> c). Of those that fit, a class
comes before a module, and a module before a package. A name that is given up is not taken again for something else.
Modules that move into a package that exists are listed one by one. Identities are digests of the first names that
things had (`first`), so a move changes none of them; what is read from a folder is brought to the `present` names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

RENAMES: dict[str, str] = {
    "arch.blocks:Block": "arch.blocks.base:Block",
    "arch.blocks:PreNorm": "arch.blocks.pre_norm:PreNorm",
    "arch.blocks:PostNorm": "arch.blocks.post_norm:PostNorm",
    "arch.blocks:SandwichNorm": "arch.blocks.sandwich:SandwichNorm",
    "arch.blocks:Parallel": "arch.blocks.parallel:Parallel",
    "arch.residual.admin": "arch.blocks.admin",
    "arch.residual.deep_norm": "arch.blocks.deep_norm",
    "arch.residual.depth_scaled": "arch.blocks.depth_scaled",
    "arch.residual.learned_scale": "arch.blocks.learned_scale",
    "arch.residual.mix_norm": "arch.blocks.mix_norm",
    "arch.stacks:Kept": "arch.stacks.base:Kept",
    "arch.stacks": "arch.stacks.sequential",
    "arch.parallel": "arch.stacks.parallel",
    "train.mesh": "train.sharding.mesh",
    "train.checkpoint": "train.record.checkpoint",
    "train.damage": "train.record.damage",
    "train.folder": "train.record.folder",
    "train.lock": "train.record.lock",
    "train.metrics": "train.record.metrics",
    "train.metric_lines": "train.record.metric_lines",
    "train.reporter": "train.record.reporter",
    "train.progress": "train.record.progress",
    "train.identity": "train.record.identity",
    "train.code": "train.record.code",
    "train.process": "train.record.process",
    "train.confined": "train.record.confined",
    "train.literal_paths": "train.record.literal_paths",
    "train.chips": "train.runtime.hardware",
    "train.compilation": "train.runtime.compilation",
    "train.distributed": "train.runtime.distributed",
    "train.host": "train.runtime.host",
    "train.profiling": "train.runtime.profiling",
    "train.signals": "train.runtime.signals",
    "train.room": "train.runtime.memory",
    "train.peers": "train.runtime.peers",
    "train.start": "train.starts.start",
    "train.from_arrays": "train.starts.from_arrays",
    "train.codes_from_data": "train.starts.codes_from_data",
    "train.frozen": "train.starts.frozen",
    "train.beside": "train.starts.beside",
    "train.opened": "train.trained",
    "train.batch_warmup": "train.optim.batch_warmup",
    "experiments.study.claims": "experiments.study.claims.claims",
    "experiments.study.verdicts": "experiments.study.claims.verdicts",
    "experiments.study.samples": "experiments.study.claims.samples",
    "experiments.study.statistics": "experiments.study.claims.statistics",
    "experiments.study.on_average": "experiments.study.claims.on_average",
    "experiments.study.rate_claims": "experiments.study.claims.rate_claims",
    "experiments.study.judge": "experiments.study.claims.judge",
    "experiments.study.spread": "experiments.study.claims.spread",
    "experiments.study.power": "experiments.study.claims.power",
    "experiments.study.stretches": "experiments.study.claims.stretches",
    "experiments.study.until": "experiments.study.claims.until",
    "experiments.study.sweep": "experiments.study.sweeps.sweep",
    "experiments.study.sweep_text": "experiments.study.sweeps.sweep_text",
    "experiments.study.expressions": "experiments.study.sweeps.expressions",
    "experiments.study.draws": "experiments.study.sweeps.draws",
    "experiments.study.dials": "experiments.study.sweeps.dials",
    "experiments.study.names": "experiments.study.sweeps.names",
    "experiments.study.rates": "experiments.study.sweeps.rates",
    "experiments.study.tuning": "experiments.study.sweeps.tuning",
    "experiments.study.page": "experiments.study.report.page",
    "experiments.study.plot": "experiments.study.report.plot",
    "experiments.study.plots": "experiments.study.report.plots",
    "experiments.study.rate_plot": "experiments.study.report.rate_plot",
    "experiments.study.shape_plots": "experiments.study.report.shape_plots",
    "experiments.study.style": "experiments.study.report.style",
    "experiments.study.svg": "experiments.study.report.svg",
    "experiments.study.table": "experiments.study.report.table",
    "experiments.study.tables": "experiments.study.report.tables",
    "experiments.study.report": "experiments.study.report.report",
    "experiments.study.stored": "experiments.study.report.stored",
    "experiments.study.exhibited": "experiments.study.report.exhibited",
    "experiments.study.counted": "experiments.study.report.counted",
    "experiments.study.sample": "experiments.study.report.sample",
    "experiments.study.compare_table": "experiments.study.report.compare_table",
    "experiments.study.tasks": "experiments.study.work.tasks",
    "experiments.study.cells": "experiments.study.work.cells",
    "experiments.study.executors": "experiments.study.work.executors",
    "experiments.study.ray_executor": "experiments.study.work.ray_executor",
    "experiments.study.provenance": "experiments.study.work.provenance",
    "experiments.study.folder": "experiments.study.work.folder",
    "experiments.study.registration": "experiments.study.work.registration",
    "experiments.study.measured": "experiments.study.claims.measured",
    "experiments.study.panels": "experiments.study.panels.panels",
    "experiments.study.diagnostics": "experiments.study.panels.diagnostics",
    "arch.layers.attention": "arch.layers.attention.softmax",
    "arch.layers.cross_attention": "arch.layers.attention.cross",
    "arch.layers.additive_attention": "arch.layers.attention.additive",
    "arch.layers.attend": "arch.layers.attention.attend",
    "arch.layers.blockwise": "arch.layers.attention.blockwise",
    "arch.layers.flash": "arch.layers.attention.flash",
    "arch.layers.masks": "arch.layers.attention.masks",
    "arch.layers.sparse_masks": "arch.layers.attention.sparse_masks",
    "arch.layers.mixers.feature_maps": "arch.layers.attention.feature_maps",
    "arch.layers.mixers.heads": "arch.layers.attention.heads",
    "arch.layers.mixers.linear_attention": "arch.layers.attention.linear",
    "arch.layers.mixers.linformer": "arch.layers.attention.linformer",
    "arch.layers.mixers.sinkhorn": "arch.layers.attention.sinkhorn",
    "arch.layers.mixers.synthesizer": "arch.layers.attention.synthesizer",
    "arch.layers.norms": "arch.layers.norms.common",
    "arch.layers.group_norm": "arch.layers.norms.group",
    "arch.layers.depth_scale": "arch.layers.norms.depth_scale",
    "arch.layers.across_heads": "arch.layers.norms.across_heads",
    "arch.layers.initializers": "arch.layers.init.initializers",
    "arch.layers.deepnet_init": "arch.layers.init.deepnet",
    "arch.layers.embedding_init": "arch.layers.init.embedding",
    "arch.layers.megatron_init": "arch.layers.init.megatron",
    "arch.layers.plain_init": "arch.layers.init.plain",
    "arch.layers.t5_init": "arch.layers.init.t5",
    "arch.layers.uniform_init": "arch.layers.init.uniform",
    "arch.layers.reseeded": "arch.layers.init.reseeded",
    "arch.layers.lstm": "arch.layers.recurrent.lstm",
    "arch.layers.lstm_cell": "arch.layers.recurrent.lstm_cell",
    "arch.layers.recurrence": "arch.layers.recurrent.recurrence",
    "arch.layers.attentive_lstm": "arch.layers.recurrent.attentive_lstm",
    "arch.layers.int8": "arch.layers.recurrent.int8",
    "arch.layers.int8_lstm": "arch.layers.recurrent.int8_lstm",
    "arch.layers.clip": "arch.layers.recurrent.clip",
    "arch.layers.class_heads": "arch.layers.heads.class_heads",
    "arch.layers.clipped_head": "arch.layers.heads.clipped",
    "arch.layers.prediction_head": "arch.layers.heads.prediction",
    "arch.layers.scaled_head": "arch.layers.heads.scaled",
    "arch.layers.pooling": "arch.layers.heads.pooling",
    "train.members": "train.ensemble",
    "arch.stacks.base:Kept": "arch.stacks.base:LayerSubset",
    "train.run:Reports": "train.run:Logging",
    "train.run:Run.reports": "logging",
}

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.<>]*")


def is_reference(text: str) -> bool:
    """Whether a text names a class or function as `module:qualname`. Text of a field is quoted, and so is none."""
    return bool(_REFERENCE.fullmatch(text))


def present_name(reference: str) -> str:
    """What a class is called now. `reference` is any name it has had."""
    names = [reference]
    while (new := _step(names[-1])) is not None and new not in names:
        names.append(new)
    return names[-1]


def present_field(reference: str, field: str) -> str:
    """What a field is called now, of a class by any name it has had."""
    now = present_name(reference)
    seen = {field}
    while (new := next((new for old, new in _fields(now) if old == field), field)) not in seen:
        seen.add(new)
        field = new
    return field


def first_name(reference: str) -> str:
    """What a class was called at first. `reference` is its present name."""
    names = [reference]
    while True:
        before = [old for old in _steps_back(names[-1]) if _step(old) == names[-1] and old not in names]
        if not before:
            return names[-1]
        names.append(before[0])


def first_field(reference: str, field: str) -> str:
    """What a field was called at first, of a class by its present name."""
    seen = {field}
    while (old := next((old for old, new in _fields(reference) if new == field), field)) not in seen:
        seen.add(old)
        field = old
    return field


def present(fields: Mapping[str, str]) -> dict[str, str]:
    """Path -> text of a configuration of before, by its present names. Classes are `module:qualname`."""
    return _renamed(fields, present_name, present_field)


def first(fields: Mapping[str, str]) -> dict[str, str]:
    """Path -> text of a configuration of now, by the first names, in the same order."""
    return _renamed(fields, first_name, first_field)


def _renamed(
    fields: Mapping[str, str], rename: Callable[[str], str], rename_field: Callable[[str, str], str]
) -> dict[str, str]:
    found = {}
    for path, text in fields.items():
        parts, at = [], ""
        for part in path.split(".") if path else ():
            owner = fields.get(at, "")
            parts.append(rename_field(owner, part) if is_reference(owner) else part)
            at = f"{at}.{part}" if at else part
        found[".".join(parts)] = rename(text) if is_reference(text) else text
    return found


def _fields(now: str) -> list[tuple[str, str]]:
    """The renamed fields of the class whose present name is `now`: (old, new)."""
    entries = ((key.rpartition("."), new) for key, new in RENAMES.items() if ":" in key and ":" not in new)
    return [(old, new) for (owner, _, old), new in entries if present_name(owner) == now]


def _step(reference: str) -> str | None:
    """The next name of a class; None if it has not been renamed since."""
    module, _, name = reference.partition(":")
    if ":" in RENAMES.get(reference, ""):
        return RENAMES[reference]
    if module in RENAMES:
        return f"{RENAMES[module]}:{name}"
    for above in _above(module):
        if f"{above}.*" in RENAMES:
            return RENAMES[f"{above}.*"].removesuffix(".*") + reference.removeprefix(above)
    return None


def _steps_back(reference: str) -> list[str]:
    """Names that `reference` may have come from in one step, by entries of a class, of a module, of a package."""
    module, _, name = reference.partition(":")
    classes = [old for old, new in RENAMES.items() if new == reference]
    modules = [f"{old}:{name}" for old, new in RENAMES.items() if new == module]
    packages = [(old, new) for above in _above(module) for old, new in RENAMES.items() if new == f"{above}.*"]
    below = [old.removesuffix(".*") + reference.removeprefix(new.removesuffix(".*")) for old, new in packages]
    return [*classes, *modules, *below]


def _above(module: str) -> Iterator[str]:
    """The packages that a module is in, the nearest first."""
    while module := module.rpartition(".")[0]:
        yield module
