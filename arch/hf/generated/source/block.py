"""A block: named sublayers that write into the residual stream, each through `step`."""

from transformers.modeling_layers import GradientCheckpointingLayer

from .core import make


class StrataBlock(GradientCheckpointingLayer):
    """What all blocks share. `names`: the sublayers in order; norms and factors of one are `NAME_norm`, ..."""

    def __init__(self, part, config, layer_idx):
        super().__init__()
        self.layer_idx = layer_idx
        self.depth = config.depths[layer_idx]  # what depth-dependent parts count by
        self.names = tuple(name for name, _ in part["sublayers"])
        for name, sublayer in part["sublayers"]:
            setattr(self, self.attribute(name), make(sublayer, config, layer_idx))

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
        if getattr(sublayer, "mixes", False):
            return self.finish(name, sublayer(hidden_states, **kwargs)[0])
        return self.finish(name, sublayer(hidden_states))

    def finish(self, name, written):
        """The last touch on what a sublayer adds."""
        return written

    def step(self, name, hidden_states, **kwargs):
        """The stream after sublayer `name`."""
        raise NotImplementedError

    def forward(self, hidden_states, **kwargs):
        for name in self.names:
            hidden_states = self.step(name, hidden_states, **kwargs)
        return hidden_states
