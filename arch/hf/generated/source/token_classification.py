"""The classifier of tokens."""

from torch import nn
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.utils import can_return_tuple

from .core import make
from .pretrained import StrataPreTrainedModel
from .trunk import StrataModel


class StrataForTokenClassification(StrataPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = StrataModel(config)
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
        logits = self.head(outputs.last_hidden_state).float()
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
