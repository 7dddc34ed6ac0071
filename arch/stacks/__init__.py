"""How blocks make depth."""

from arch.stacks.base import Kept, Pattern, Stack
from arch.stacks.parallel import Grouped, ParallelStack
from arch.stacks.patterns import Cycle, Listed, Split
from arch.stacks.sequential import Sequential

__all__ = ["Cycle", "Grouped", "Kept", "Listed", "ParallelStack", "Pattern", "Sequential", "Split", "Stack"]
