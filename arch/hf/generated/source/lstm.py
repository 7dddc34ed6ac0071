"""An LSTM in the place of attention (Hochreiter and Schmidhuber 1997).

A cache keeps h and c after each token as its keys and values; the last of them go on.
"""

from torch import nn

from .recurrence import StrataRecurrence


class StrataLSTM(nn.Module):
    mixes = True

    def __init__(self, part, config, layer_idx):
        super().__init__()
        self.layer_idx, hidden = layer_idx, part["hidden"] or config.hidden_size
        self.forwards = StrataRecurrence(part["cell"], config.hidden_size, hidden)
        self.o_proj = nn.Linear(hidden, config.hidden_size, bias=part["bias"])

    def forward(self, hidden_states, places, cache=None, **kwargs):
        length = hidden_states.shape[1]
        state = before = None
        if cache is not None and places.key_document.shape[1] > length:
            layer = cache.layers[self.layer_idx]
            state = (layer.keys[:, 0, -1], layer.values[:, 0, -1])
            before = places.key_document[:, :-length].amax(1)
        h, c = self.forwards(hidden_states, places.query_document, state, before)
        if cache is not None:
            cache.update(h[:, None], c[:, None], self.layer_idx)
        return self.o_proj(self.forwards.output(h, hidden_states)), None
