"""The base model of a pair: an encoder reads the source, a decoder writes the target and looks at it."""

from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqModelOutput
from transformers.utils import can_return_tuple

from .configuration import StrataConfig
from .core import CACHE
from .pretrained import StrataPreTrainedModel
from .trunk import StrataModel
from .versions import standard_mask


class StrataReader(StrataModel):
    """A decoder whose blocks read a memory."""

    def new_cache(self):
        return EncoderDecoderCache(DynamicCache(config=self.config), DynamicCache())

    def told(self, inputs_embeds, cache, encoder_hidden_states=None, encoder_attention_mask=None, **kwargs):
        memory = {"encoder_hidden_states": encoder_hidden_states}
        mask = standard_mask(create_bidirectional_mask, self.config, inputs_embeds, encoder_attention_mask, **memory)
        own = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
        pair = cache if isinstance(cache, EncoderDecoderCache) else None
        return {"cache": own, "pair_cache": pair, "memory": encoder_hidden_states, "memory_mask": mask, **kwargs}


class StrataPairModel(StrataPreTrainedModel):
    _tied_weights_keys = SHARED

    def __init__(self, config):
        super().__init__(config)
        self.encoder = StrataModel(StrataConfig(**config.encoder, _attn_implementation=config._attn_implementation))
        self.decoder = StrataReader(config)
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
        decoder_position_ids=None,
        encoder_outputs=None,
        cache=None,
        inputs_embeds=None,
        decoder_inputs_embeds=None,
        use_cache=None,
        past_key_values=None,
        **kwargs,
    ):
        if encoder_outputs is None:
            encoder_outputs = self.encoder(
                input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, **kwargs
            )
        elif not hasattr(encoder_outputs, "last_hidden_state"):
            encoder_outputs = BaseModelOutput(last_hidden_state=encoder_outputs[0])
        outputs = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            position_ids=decoder_position_ids,
            inputs_embeds=decoder_inputs_embeds,
            cache=past_key_values if cache is None else cache,
            use_cache=use_cache,
            encoder_hidden_states=encoder_outputs.last_hidden_state,
            encoder_attention_mask=attention_mask,
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=outputs.last_hidden_state,
            decoder_hidden_states=outputs.hidden_states,
            decoder_attentions=outputs.attentions,
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
            encoder_hidden_states=getattr(encoder_outputs, "hidden_states", None),
            encoder_attentions=getattr(encoder_outputs, "attentions", None),
            **{CACHE: getattr(outputs, CACHE)},
        )
