"""The base model of a recurrent translator (GNMT, arXiv 1609.08144)."""

from transformers.modeling_outputs import BaseModelOutput, Seq2SeqModelOutput
from transformers.utils import can_return_tuple

from .configuration import StrataConfig
from .core import CACHE
from .pretrained import StrataPreTrainedModel
from .recurrent_decoder import StrataRecurrentDecoder
from .recurrent_encoder import StrataRecurrentEncoder


class StrataGNMTModel(StrataPreTrainedModel):
    _tied_weights_keys = SHARED
    supports_gradient_checkpointing = False

    def __init__(self, config):
        super().__init__(config)
        self.encoder = StrataRecurrentEncoder(StrataConfig(**config.encoder))
        self.decoder = StrataRecurrentDecoder(config)
        self.post_init()

    def get_input_embeddings(self):
        return self.encoder.embed_tokens

    def get_encoder(self, modality=None):
        return self.encoder

    def get_decoder(self):
        return self.decoder

    @can_return_tuple
    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        decoder_input_ids=None,
        decoder_attention_mask=None,
        encoder_outputs=None,
        cache=None,
        inputs_embeds=None,
        decoder_inputs_embeds=None,
        use_cache=None,
        past_key_values=None,
        output_hidden_states=None,
        **kwargs,
    ):
        asked = {"output_hidden_states": output_hidden_states, "return_dict": True}
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, attention_mask, inputs_embeds, **asked)
        elif not hasattr(encoder_outputs, "last_hidden_state"):
            encoder_outputs = BaseModelOutput(last_hidden_state=encoder_outputs[0])
        outputs = self.decoder(
            decoder_input_ids,
            decoder_attention_mask,
            decoder_inputs_embeds,
            encoder_hidden_states=encoder_outputs.last_hidden_state,
            encoder_attention_mask=attention_mask,
            cache=past_key_values if cache is None else cache,
            use_cache=use_cache,
            **asked,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=outputs.last_hidden_state,
            decoder_hidden_states=outputs.hidden_states,
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
            encoder_hidden_states=getattr(encoder_outputs, "hidden_states", None),
            **{CACHE: getattr(outputs, CACHE)},
        )
