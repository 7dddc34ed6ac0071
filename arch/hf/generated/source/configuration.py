"""The configuration: the fields that tools look for, and in `parts` what the model is made of."""

from transformers.configuration_utils import PreTrainedConfig


class StrataConfig(PreTrainedConfig):
    """A model written by Strata.

    `parts`: `blocks`, the different ones; `layers`, which of them each layer is; `embedding`, `position`, `masks`,
    `stack`, `norm`, `head`. A part is its kind and its fields. `depths`: the depth, from 0, that each layer counts by.
    """

    model_type = "strata"
    keys_to_ignore_at_inference = ["past_key_values", "cache"]  # noqa: RUF012
    base_model_tp_plan = {  # noqa: RUF012
        "layers.*.self_attn.q_proj": "colwise",
        "layers.*.self_attn.k_proj": "colwise",
        "layers.*.self_attn.v_proj": "colwise",
        "layers.*.self_attn.o_proj": "rowwise",
        "layers.*.mlp.gate_proj": "colwise",
        "layers.*.mlp.up_proj": "colwise",
        "layers.*.mlp.down_proj": "rowwise",
    }
    base_model_pp_plan = {  # noqa: RUF012
        "embed_tokens": (["input_ids"], ["inputs_embeds"]),
        "layers": (["hidden_states", "attention_mask"], ["hidden_states"]),
        "norm": (["hidden_states"], ["hidden_states"]),
    }

    parts: dict | None = None
    depths: list | None = None
    caches: bool = True
    encoder: dict | None = None
    is_encoder_decoder: bool = False
    decoder_start_token_id: int | None = None
    vocab_size: int = 0
    hidden_size: int = 0
    num_hidden_layers: int = 0
    num_attention_heads: int = 1
    num_key_value_heads: int = 1
    head_dim: int = 1
    intermediate_size: int = 0
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    sliding_window: int | None = None
    layer_types: list | None = None
    logit_scale: float = 1.0
    final_logit_softcapping: float | None = None
    attn_logit_softcapping: float | None = None
    rope_parameters: dict | None = None
    use_cache: bool = True
    tie_word_embeddings: bool = False
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list | None = None
    cls_token_id: int | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if "'AcrossHeads'" in repr(self.parts):  # a norm of all heads needs them on one device
            self.base_model_tp_plan = {name: how for name, how in self.base_model_tp_plan.items() if "mlp" in name}
