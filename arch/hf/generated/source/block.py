"""A block: named sublayers that write into the residual stream, each through `step`."""

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .core import make

SITES = {"mixer": "attn_out", "feed_forward": "mlp_out"}


class StrataBlock(GradientCheckpointingLayer):
    """What all blocks share. `names`: the sublayers in order; norms and factors of one are `NAME_norm`, ..."""

    def __init__(self, part, config, layer_idx):
        super().__init__()
        self.layer_idx = layer_idx
        self.depth = config.depths[layer_idx]  # what depth-dependent parts count by
        self.names = tuple(name for name, _ in part["sublayers"])
        for name, sublayer in part["sublayers"]:
            setattr(self, self.attribute(name), make(sublayer, config, layer_idx))
        sites = {site: make(one, config.hidden_size) for site, one in part["at"]}
        self.at = nn.ModuleDict(sites)  # what the stream and what is added to it pass through, by site

    def passed(self, site, hidden_states):
        """`hidden_states` through the bottleneck at `site`, if one stands there."""
        return self.at[site](hidden_states) if site in self.at else hidden_states

    def attribute(self, name):
        """What a sublayer is called in servers' plans."""
        return {"mixer": "self_attn", "feed_forward": "mlp"}.get(name, name)

    def add_beside(self, what, build, skip=()):
        """A part for each sublayer."""
        for name in self.names:
            if name not in skip:
                setattr(self, f"{name}_{what}", build())

    def add_norms(self, part, config, what="norm", skip=()):
        """A norm for each sublayer."""
        self.add_beside(what, lambda: make(part["norm"], config.hidden_size, self.depth), skip)

    def beside(self, name, what):
        """The part that `add_beside` made."""
        return getattr(self, f"{name}_{what}")

    def write(self, name, hidden_states, **kwargs):
        """What sublayer `name` adds to the stream."""
        sublayer = getattr(self, self.attribute(name))
        mixes = getattr(sublayer, "mixes", False)
        written = sublayer(hidden_states, **kwargs)[0] if mixes else sublayer(hidden_states)
        return self.passed(SITES.get(name, f"{name}_out"), self.finish(name, written))

    def finish(self, name, written):
        """The last touch on what a sublayer adds."""
        return written

    def step(self, name, hidden_states, **kwargs):
        """The stream after sublayer `name`."""
        raise NotImplementedError

    def residual(self, hidden_states, **kwargs):
        """The stream after all sublayers."""
        for index, name in enumerate(self.names):
            hidden_states = self.step(name, hidden_states, **kwargs)
            if index + 1 < len(self.names):
                hidden_states = self.passed("resid_mid" if index == 0 else f"resid_after_{name}", hidden_states)
        return hidden_states

    def forward(self, hidden_states, **kwargs):
        hidden_states = self.residual(self.passed("resid_pre", hidden_states), **kwargs)
        return self.passed("resid_post", hidden_states)
