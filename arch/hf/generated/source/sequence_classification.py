"""The classifier of rows."""

import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple

from .core import make
from .pretrained import StrataPreTrainedModel
from .trunk import StrataModel


class StrataForSequenceClassification(StrataPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = StrataModel(config)
        self.pooling = make(config.parts["pooling"])
        self.head = make(config.parts["head"], config.hidden_size, config.num_labels, config.hidden_size)
        self.post_init()

    @can_return_tuple
    def forward(
        self, input_ids=None, attention_mask=None, position_ids=None, inputs_embeds=None, labels=None, **kwargs
    ):
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
        logits = self.head(self.pooling(hidden_states, visible)).float()
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
