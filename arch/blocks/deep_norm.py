"""DeepNorm (arXiv 2203.00555; its rule for decoders alone), a post-norm block for very deep models.

  x = norm(alpha x + f(x)),   alpha = (2L)^(1/4)

with the weights of values, of attention's output and of the feed-forward multiplied by beta = (8L)^(-1/4) at the start:
`layers.deepnet_init.DeepNormInit`. Both constants were checked against the authors' code (torchscale).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import get_args

from arch.blocks.base import Block
from arch.blocks.post_norm import PostNormLayer
from arch.layers.init.deepnet import Compat
from arch.params import ParamFactory
from arch.spec import Problem, one_of

RELEASED_ALPHA = 8**0.5  # 2.828...: (2 * 32)^(1/4), whatever the depth


@dataclasses.dataclass(frozen=True)
class DeepNorm(Block):
    """norm(alpha x + f(x)) for each sublayer. A closed gate leaves the stream as it is.

    `compat` "lns_code": alpha = 2.828 at every depth, as in the released code of arXiv 2502.05795.
    """

    compat: Compat = "paper"

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from one_of(self, "compat", get_args(Compat))

    def build(self, width, make):
        return DeepNormLayer(self, width, make)


class DeepNormLayer(PostNormLayer):
    def __init__(self, spec: DeepNorm, width: int, make: ParamFactory):
        super().__init__(spec, width, make)
        self.alpha = (2 * make.depth) ** 0.25 if spec.compat == "paper" else RELEASED_ALPHA

    def carried(self, name, x):
        return self.alpha * x
