"""GNMT in numpy float64, one sentence and one token at a time, from the equations of the paper alone."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Lstm:
    """The state of one layer. `clip` bounds c."""

    def __init__(self, cell, clip=np.inf):
        self.cell, self.clip = cell, clip
        hidden = cell["bias"].shape[1]
        self.h, self.c = np.zeros(hidden), np.zeros(hidden)

    def __call__(self, **read):
        gates = self.cell["bias"] + np.einsum("k,kgh->gh", self.h, self.cell["h"]["kernel"])
        for name, x in read.items():
            gates = gates + np.einsum("d,dgh->gh", x, self.cell[name]["kernel"])
        i, f, o, g = gates
        self.c = np.clip(sigmoid(f) * self.c + sigmoid(i) * np.tanh(g), -self.clip, self.clip)
        self.h = sigmoid(o) * np.tanh(self.c)
        return self.h


def layers(tree):
    """The cells of the layers above the first, the lowest first."""
    found = []
    for number in sorted(tree.get("layers", {}).get("sections", {}), key=int):
        cell = tree["layers"]["sections"][number]["lstm"]["cell"]
        for layer in range(cell["bias"].shape[0]):
            found.append({name: leaf if name == "bias" else dict(leaf) for name, leaf in cell.items()})
            found[-1] = pick(found[-1], layer)
    return found


def pick(tree, layer):
    return {name: pick(leaf, layer) if isinstance(leaf, dict) else leaf[layer] for name, leaf in tree.items()}


def encode(tree, table, tokens, residual_from, clip=np.inf, left=None):
    """The memory. `left`: a list that gets the layers as they end, of the first the one that reads from the end."""
    x = [table[token] for token in tokens]
    forward, backward = (Lstm(tree["first"][way]["cell"], clip) for way in ("forward", "backward"))
    ahead = [forward(x=one) for one in x]
    back = [backward(x=one) for one in reversed(x)][::-1]
    z = [np.clip(np.concatenate(pair), -clip, clip) for pair in zip(ahead, back, strict=True)]
    ended = [backward]
    for number, cell in enumerate(layers(tree), start=2):
        layer = Lstm(cell, clip)
        ended.append(layer)
        residual = residual_from is not None and number >= residual_from
        z = [np.clip(layer(x=one) + (one if residual else 0), -clip, clip) for one in z]
    if left is not None:
        left.extend(ended)
    return np.array(z)


def decode(params, memory, tokens, residual_from, compat, clip=np.inf, begin=()):
    """Logits of every token, and the attention pattern. `begin`: layers whose states those of the decoder start in."""
    tree, head = params["decoder"], params["head"]["kernel"]
    attention = tree["first"]["attention"]
    keys = memory @ attention["k"]["kernel"]

    def attend(query):
        e = np.tanh(query @ attention["q"]["kernel"] + keys) @ attention["v"]
        p = np.exp(e - e.max())
        return p / p.sum()

    bottom, above = Lstm(tree["first"]["cell"], clip), [Lstm(cell, clip) for cell in layers(tree)]
    for layer, one in zip([bottom, *above], begin, strict=bool(begin)):
        layer.h, layer.c = one.h, one.c
    context, logits, patterns = np.zeros(memory.shape[1]), [], []
    for token in tokens:
        before, query = context, bottom.h
        z = bottom(x=tree["embedding"]["table"][token], context=before)
        pattern = attend(query if compat == "paper" else z)
        context = pattern @ memory
        z = np.clip(z, -clip, clip)
        for number, layer in enumerate(above, start=2):
            m = layer(x=z, context=before if compat == "gnmt" else context)
            residual = residual_from is not None and number >= residual_from
            z = np.clip(m + (z if residual else 0), -clip, clip)
        logits.append(z @ head)
        patterns.append(pattern)
    return np.array(logits), np.array(patterns)
