"""Which objectives a teacher and a student may read a batch by: those of the same targets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.spec import SpecError
from tests.train import toys
from tests.train.objectives.test_concatenated import PAIRS
from train.data.reversal import Reversed
from train.objectives.concatenated import Concatenated, PrefixConcatenated
from train.objectives.distillation import Distill
from train.objectives.masked_lm import MaskedLM, MaskedNextToken
from train.objectives.next_token import NextToken
from train.objectives.prefix_lm import PrefixLM
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.objectives.span_corruption import SpanCorruption
from train.starts.frozen import Pretrained
from train.starts.start import FromRun

TEACHER = Pretrained(toys.model(), FromRun("/nowhere"))
DATA = Reversed(length=6, vocab=16).describe()


@pytest.mark.parametrize(
    ("objective", "reads"),
    [
        (NextToken(), PrefixLM()),
        (PrefixLM(), NextToken()),
        (MaskedLM(0.3), MaskedLM(0.15)),
        (MaskedLM(), MaskedNextToken()),
        (SpanCorruption(density=0.3), SpanCorruption()),
        (SequenceToSequence(), NextToken()),
    ],
)
def test_a_teacher_of_other_targets_is_refused(objective, reads):
    """Its j-th is another token than the student's."""
    with pytest.raises(SpecError, match=f"reads={type(reads).__name__}.*: must have the same targets as the student's"):
        Distill(TEACHER, objective=objective, reads=reads)


@pytest.mark.parametrize(
    ("objective", "reads"),
    [
        (NextToken(), NextToken(z_loss=1e-4)),
        (PrefixLM(), PrefixLM(z_loss=1e-4)),
        (MaskedLM(0.3), MaskedLM(0.3)),
        (Concatenated(), SequenceToSequence(label_smoothing=0.1)),
        (SpanCorruption(), SpanCorruption(pairs=PrefixConcatenated())),
    ],
)
def test_a_teacher_of_the_same_targets_reads_them_at_the_same_ranks(objective, reads):
    Distill(TEACHER, objective=objective, reads=reads)
    pairs = isinstance(objective, SequenceToSequence)
    description = DATA if pairs else toys.Toy().describe()
    batch = PAIRS if pairs else toys.Toy().build().rows["train"].gather(np.arange(5))
    keys = jax.random.split(jax.random.key(1), 5)
    told = [one.build(description).prepare(jax.tree.map(jnp.asarray, batch), keys)[1] for one in (objective, reads)]
    for row in range(5):
        mine, theirs = (np.asarray(one.tokens[row])[np.asarray(one.weights[row]) > 0] for one in told)
        assert len(mine)
        np.testing.assert_array_equal(mine, theirs)
