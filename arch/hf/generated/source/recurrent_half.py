"""What both halves of a recurrent translator have (arXiv 1609.08144, sec. 3)."""

import torch
from torch import nn

from .core import make
from .places import find_places
from .pretrained import StrataPreTrainedModel
from .recurrence import StrataRecurrence


class StrataRecurrentLayer(nn.Module):
    """A layer above the first; `residual`: whether what it reads is added to what it writes."""

    def __init__(self, part, inputs, hidden, residual, context=None):
        super().__init__()
        self.residual = residual
        self.lstm = StrataRecurrence(part, inputs, hidden, context=context)

    def output(self, h, below):
        return self.lstm.output(h, below, below if self.residual else None)


class StrataRecurrentHalf(StrataPreTrainedModel):
    """Embedding and layers; `layers.0` is another kind than those above."""

    supports_gradient_checkpointing = False

    def __init__(self, config):
        super().__init__(config)
        parts, width = config.parts, config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, width)
        self.embedding = None if parts["embedding"] is None else make(parts["embedding"], width)
        self.layers = nn.ModuleList([self.first(parts["first"], width, parts["memory"])])
        for inputs, residual in zip(parts["inputs"], parts["residual"], strict=True):
            self.layers.append(StrataRecurrentLayer(parts["cell"], inputs, width, residual, parts["memory"]))
        self.post_init()

    def embedded(self, input_ids, inputs_embeds):
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either token ids or embeddings")
        embeds = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        return embeds if self.embedding is None else self.embedding(embeds)

    def documents(self, embeds, attention_mask, seen=0):
        """The documents of the tokens, and of all with those that were seen before."""
        positions = torch.arange(seen, seen + embeds.shape[1], device=embeds.device)[None]
        places = find_places(embeds.shape[0], positions, attention_mask, seen)
        return places.query_document, places.key_document

    def asked(self, hidden_states, output_hidden_states):
        """The states of every layer, if they are asked for."""
        asked = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return tuple(hidden_states) if asked else None
