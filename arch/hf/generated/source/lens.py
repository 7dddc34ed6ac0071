"""This model in TransformerLens 3 and later: the residual stream before and after each layer, whatever its blocks are.

    sys.path.insert(0, FOLDER); import lens_strata
    bridge = TransformerBridge.boot_transformers(FOLDER, trust_remote_code=True)
    logits, cache = bridge.run_with_cache(text)         # cache["blocks.0.hook_resid_pre"], ...

As an entry point of `transformer_lens.architectures`: StrataForCausalLM = lens_strata:StrataArchitectureAdapter.
"""

from transformer_lens.factories import architecture_adapter_factory
from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter
from transformer_lens.model_bridge.generalized_components import EmbeddingBridge, UnembeddingBridge
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent
from transformer_lens.model_bridge.generalized_components.opaque_block import OpaqueBlockBridge


class StrataArchitectureAdapter(ArchitectureAdapter):
    """Blocks as they are: nothing is assumed of where their norms stand, and nothing is folded."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.supports_fold_ln = False
        self.weight_processing_conversions = {}
        self.component_mapping = {
            "embed": EmbeddingBridge(name="model.embed_tokens"),
            "blocks": OpaqueBlockBridge(name="model.layers"),
            "ln_final": GeneralizedComponent(name="model.norm", config=self.cfg),
            "unembed": UnembeddingBridge(name="lm_head", config=self.cfg),
        }

    def prepare_model(self, hf_model):
        super().prepare_model(hf_model)
        if hf_model.model.norm is None:
            del self.component_mapping["ln_final"]


NAME = "StrataForCausalLM"
architecture_adapter_factory.ArchitectureAdapterFactory.register_adapter(NAME, StrataArchitectureAdapter)
# 4.3 looks here for the name in a configuration, also for what was registered.
architecture_adapter_factory.SUPPORTED_ARCHITECTURES[NAME] = StrataArchitectureAdapter
