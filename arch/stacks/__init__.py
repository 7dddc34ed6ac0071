"""How blocks make depth."""

from arch.stacks.base import LayerSubset, Pattern, Stack
from arch.stacks.parallel import Grouped, ParallelStack
from arch.stacks.patterns import Cycle, FirstThen, Listed, Split
from arch.stacks.sequential import Sequential

__all__ = ["Cycle", "FirstThen", "Grouped", "LayerSubset", "Listed", "ParallelStack", "Pattern", "Sequential", "Split"]
__all__ += ["Stack"]
