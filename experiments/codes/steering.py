"""Codes named on the command line, or found by what they fire on, as what a generation is steered by."""

from __future__ import annotations

from collections.abc import Sequence

from arch.decode.steered import Activate, Steered
from arch.decode.strategy import Strategy
from arch.spec import UserError
from experiments.codes.contexts import gather
from experiments.codes.reading import Reader, Site
from train.trained import TrainedRun

READ = 50_000
"""Tokens that are read to see whether a code ever fires."""


def steered(opened: TrainedRun, strategy: Strategy, texts: Sequence[str]) -> Steered:
    """`strategy` while the codes in `texts`, SITE:LAYER:CODE or SITE:LAYER:GROUP:CODE each, are active in all prompts.

    Raises:
      UserError: one that the model does not have, or that never fires on the data.
    """
    reader = Reader(opened)
    plans = [activate(reader.sites, text) for text in texts]
    read = gather(reader(READ), reader.sites, most=1)
    for text, plan in zip(texts, plans, strict=True):
        site = next(site for site in reader.sites if site.name == plan.site)
        if not read.places[site.name].counts[number(site, plan)]:
            raise UserError(f"activate {text}: this code fires on none of {read.told}; "
                            "launch.py codes lists those that do")  # fmt: skip
    return Steered(strategy, (tuple(plans),))


def activate(sites: Sequence[Site], text: str) -> Activate:
    """The code that `text` names, of one of `sites`."""
    name, *rest = text.split(":")
    site = next((site for site in sites if site.name == name), None)
    if site is None:
        raise UserError(f"activate {text}: no codebook at {name}; there are some at {', '.join(s.name for s in sites)}")
    if site.stages > 1:
        raise UserError(f"activate {text}: the codes of {name} are chosen in stages, of which none stands alone")
    if len(rest) not in (2, 3) or not all(piece.isdecimal() for piece in rest):
        raise UserError(f"activate {text}: expected SITE:LAYER:CODE or SITE:LAYER:GROUP:CODE, numbers from 0")
    numbers = [int(piece) for piece in rest]
    layer, group, code = numbers if len(numbers) == 3 else (numbers[0], 0, numbers[1])
    if len(numbers) == 2 and site.groups > 1:
        raise UserError(
            f"activate {text}: {name} has {site.groups} groups of codes; name one, as {name}:{layer}:0:{code}"
        )
    for what, value, count in (("layer", layer, site.layers), ("group", group, site.groups), ("code", code, site.size)):
        if value >= count:
            raise UserError(f"activate {text}: {name} has {count} {what}s, 0 to {count - 1}; not {what} {value}")
    return Activate(name, layer, code, group)


def number(site: Site, plan: Activate) -> int:
    """The number of a code among all of the site."""
    return (plan.layer * site.sets + plan.group) * site.size + plan.code


def activation(site: Site, at: int) -> Activate:
    """All of a vector's codes become the one of number `at` among all of the site."""
    sets, code = divmod(at, site.size)
    layer, group = divmod(sets, site.sets)
    return Activate(site.name, layer, code, group)
