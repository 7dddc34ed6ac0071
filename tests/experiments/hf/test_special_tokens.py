"""The last of the twelve silent errors of tests/arch/hf/test_silent_errors.py: a text begins as rows began."""

import numpy as np
import pytest
import tokenizers
import transformers

from arch.hf.folder import write
from experiments.hf.tokenizer import framed
from tests.arch import tiny
from tests.arch.hf import cases
from tests.arch.hf.generated_cases import planned
from tests.arch.hf.test_silent_errors import CODE, asked, gap, ours, right, tokens, wrong

pytestmark = pytest.mark.filterwarnings("ignore")


def test_special_tokens(tmp_path):
    """A text begins with the token that rows began with, once."""
    write(planned(CODE, cases.FACTS), tmp_path / "code")
    words = {f"w{place}": place for place in range(tiny.V)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w1"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    rows = np.concatenate([np.zeros((2, 1), np.int32), tokens()[:, 1:]], axis=1)
    texts = [" ".join(f"w{token}" for token in row[1:]) for row in rows]
    told = {"home": framed(made.to_str(), CODE, 0, 1), "none": made.to_str()}
    told["twice"] = framed(told["home"], CODE, 0, 1)
    trained = ours(CODE, rows)[:, -1]
    for name, check in (("home", right), ("none", wrong), ("twice", wrong)):
        theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer.from_str(told[name]))
        ids = np.array(theirs(texts)["input_ids"])
        check(gap(trained, asked(tmp_path / "code", ids)[:, -1]))
