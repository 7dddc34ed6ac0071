"""How a model is written, tried in order: as a standard class with constants folded in, as a standard class with a
configuration by layer, as code of its own. Each says why it takes a model or does not.

A further tier is one more entry of `tiers`: an object with a `name` and `plan(model, params, facts) -> Plan`, which
raises `UnfitError` for a model that it does not take.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from arch.hf.families.bert import Bert
from arch.hf.families.gpt2 import GPT2
from arch.hf.families.gpt_neox import GPTNeoX
from arch.hf.families.llama import Llama, Mistral, Qwen3
from arch.hf.families.modernbert import ModernBert, ModernBertDecoder
from arch.hf.families.olmo2 import Olmo2
from arch.hf.families.t5 import T5
from arch.hf.families.t5gemma import T5Gemma
from arch.hf.family import Facts, Family, UnfitError
from arch.hf.generated.tier import Generated
from arch.hf.plain import plain
from arch.hf.plan import Plan, Tier
from arch.models.base import Model
from arch.params import Tree
from arch.spec import UserError

FAMILIES: tuple[Family, ...] = (
    Llama(),
    Mistral(),
    Qwen3(),
    Olmo2(),
    GPT2(),
    GPTNeoX(),
    Bert(),
    ModernBert(),
    ModernBertDecoder(),
    T5(),
    T5Gemma(),
)


class Fold:
    """A standard class of Transformers, whatever is a constant folded into the numbers (`arch.hf.fold`)."""

    name = "standard class"

    def __init__(self, families: Iterable[Family] = FAMILIES):
        self.families = tuple(families)

    def plan(self, model, params, facts):
        refusals: list[tuple[int, str]] = []
        laid = {}
        for family in self.families:
            if family.native not in laid:
                laid[family.native] = plain(model, params, family.native)
            found = laid[family.native]
            try:
                config, target, lacking = family.fit(found, facts)
            except UnfitError as error:
                refusals.append((family.distance(found, facts), str(error)))
                continue
            folded = f", {'; '.join(found.folded)}" if found.folded else ", as it is"
            folded += f", in Transformers {family.since} and later" if family.since else ""
            told = {"model_type": family.model_type, "architectures": [family.architecture], **config}
            return Plan(
                self.name, f"opens as {family.architecture}{folded}", told, family.planned(found, target, lacking)
            )
        raise UnfitError(min(refusals, key=lambda one: one[0])[1])


class PerLayer:
    """A standard class with `per_layer_config`. Transformers 5.24 keeps it in the configuration, and of the classes
    above none reads it: LlamaForCausalLM raises AmbiguousGlobalPerLayerAttributeError. So it takes nothing yet."""

    name = "per_layer_config"

    def plan(self, model, params, facts):
        raise UnfitError("no standard class that has a counterpart here reads per_layer_config (Transformers 5.24)")


STANDARD: tuple[Tier, ...] = (Fold(), PerLayer())
TIERS: tuple[Tier, ...] = (*STANDARD, Generated())


def plan(model: Model, params: Tree, facts: Facts, tiers: Sequence[Tier] = TIERS, buffers: Tree | None = None) -> Plan:
    """How `model` is written: the plan of the first of `tiers` that takes it. `buffers`: of a model that has some.

    Raises:
      UserError: none takes it; one line that says why of each.
    """
    said = []
    for tier in tiers:
        try:
            if buffers and tier.name != Generated.name:
                raise UnfitError("it has buffers, for which no class of Transformers has a place")
            found = tier.plan(model, joined(params, buffers) if buffers else params, facts)
        except UserError as error:  # also of a stack whose layers are not one after another
            said.append(f"{tier.name}: {error}")
            continue
        except UnfitError as error:
            said.append(f"{tier.name}: {error}")
            continue
        return dataclasses.replace(found, reason="; ".join([found.reason, *(f"not {one}" for one in said)]))
    raise UserError(f"{type(model).__name__} cannot be exported: {'; '.join(said)}")


def joined(params: Tree, buffers: Tree) -> Tree:
    """One tree of both."""
    return {
        name: joined(params.get(name, {}), buffers[name]) if isinstance(buffers.get(name), dict)
        else buffers.get(name, params.get(name))
        for name in {**params, **buffers}
    }  # fmt: skip
