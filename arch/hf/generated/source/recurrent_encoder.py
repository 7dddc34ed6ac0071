"""The encoder of a recurrent translator: LSTMs over the source, the first of them in both directions."""

from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import can_return_tuple

from .bidirectional_lstm import StrataBothDirections
from .recurrence import StrataRecurrence
from .recurrent_half import StrataRecurrentHalf


class StrataRecurrentEncoder(StrataRecurrentHalf):
    def first(self, part, width, memory):
        kind = StrataBothDirections if part["both"] else StrataRecurrence
        return kind(part["cell"], width, width)

    @can_return_tuple
    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, output_hidden_states=None, **kwargs):
        states = [self.embedded(input_ids, inputs_embeds)]
        document, _ = self.documents(states[0], attention_mask)
        for layer in self.layers:
            below = states[-1]
            if isinstance(layer, StrataBothDirections):
                states.append(layer(below, document))
                continue
            lstm = layer if isinstance(layer, StrataRecurrence) else layer.lstm
            states.append(layer.output(lstm(below, document)[0], below))
        return BaseModelOutput(last_hidden_state=states[-1], hidden_states=self.asked(states, output_hidden_states))
