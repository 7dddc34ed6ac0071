"""The embedder: one vector of a row, as `pooler_output`."""

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import can_return_tuple

from .core import make
from .pretrained import StrataPreTrainedModel
from .trunk import StrataModel


class StrataForEmbedding(StrataPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = StrataModel(config)
        self.pooling = make(config.parts["pooling"])
        self.post_init()

    @can_return_tuple
    def forward(self, input_ids=None, attention_mask=None, position_ids=None, inputs_embeds=None, **kwargs):
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        if attention_mask is None:
            visible = torch.ones(hidden_states.shape[:2], dtype=torch.bool, device=hidden_states.device)
        else:
            visible = attention_mask.bool()
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden_states,
            pooler_output=self.pooling(hidden_states, visible).float(),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
