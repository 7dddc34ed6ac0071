"""The masked language model."""

from torch import nn
from transformers.modeling_outputs import MaskedLMOutput
from transformers.utils import can_return_tuple

from .core import make
from .pretrained import StrataPreTrainedModel
from .trunk import StrataModel


class StrataForMaskedLM(StrataPreTrainedModel):
    _tied_weights_keys = TIED

    def __init__(self, config):
        super().__init__(config)
        self.model = StrataModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.head = make(config.parts["head"], config)
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
        logits = self.head(outputs.last_hidden_state, self.lm_head)
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
