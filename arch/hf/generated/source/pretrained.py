"""What all model classes share."""

from transformers import initialization
from transformers.modeling_utils import PreTrainedModel

from .block import StrataBlock
from .configuration import StrataConfig


class StrataPreTrainedModel(PreTrainedModel):
    config_class = StrataConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = BLOCKS
    _supports_attention_backend = True
    _supports_sdpa = SDPA
    _supports_flash_attn = FLASH
    _supports_flex_attn = FLASH
    _can_compile_fullgraph = False
    _can_record_outputs = {"hidden_states": StrataBlock, **RECORDED}  # noqa: RUF012

    def _init_weights(self, module):
        super()._init_weights(module)
        for name, start in getattr(module, "starts", {}).items():
            if start == "normal":
                initialization.normal_(getattr(module, name), mean=0.0, std=self.config.initializer_range)
            else:
                initialization.constant_(getattr(module, name), start)
