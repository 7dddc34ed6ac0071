"""The tokens and the template that a folder of Transformers states, against its own tokenizer."""

import json

import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from arch.spec import UserError
from experiments.hf.origins import TEMPLATE, TOKENIZER, Folder
from experiments.hf.stated import ends, template

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<odd>")


@pytest.fixture
def folder(tmp_path):
    """Of a tokenizer whose first special token is the usual end, and another is its own."""
    words = {chr(character): number for number, character in enumerate(range(256, 512))}
    made = Tokenizer(models.BPE(vocab=words, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens(list(SPECIAL))
    made.save(str(tmp_path / TOKENIZER))
    return tmp_path


def state(folder, file, **told):
    (folder / file).write_text(json.dumps(told))


@pytest.mark.parametrize("eos", ["<|im_end|>", {"__type": "AddedToken", "content": "<|im_end|>", "lstrip": False}])
def test_by_their_text(folder, eos):
    state(folder, "tokenizer_config.json", bos_token="<|im_start|>", eos_token=eos, chat_template="{{ messages }}")
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder))
    assert ends(folder, folder / TOKENIZER) == {"bos": theirs.bos_token, "eos": theirs.eos_token}
    assert template(folder) == theirs.chat_template


def test_by_their_ids_of_which_the_first_that_is_special_counts(folder):
    state(folder, "config.json", bos_token_id=256, eos_token_id=256)
    state(folder, "generation_config.json", eos_token_id=[3, 259, 258])
    assert ends(folder, folder / TOKENIZER) == {"bos": "<|endoftext|>", "eos": "<odd>"}


def test_what_is_not_stated_is_left_open(folder):
    assert ends(folder, folder / TOKENIZER) == {}
    assert template(folder) is None
    state(folder, "tokenizer_config.json", bos_token=None, eos_token="not there", chat_template=[
        {"name": "tools", "template": "x"}, {"name": "default", "template": "y"},
    ])  # fmt: skip
    assert ends(folder, folder / TOKENIZER) == {}
    assert template(folder) == "y"
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer_config\.json: is no JSON"):
        ends(folder, folder / TOKENIZER)


def test_an_import_keeps_them(folder, tmp_path_factory):
    new = tmp_path_factory.mktemp("new")
    state(folder, "tokenizer_config.json", bos_token="<|im_start|>", eos_token="<odd>", chat_template="{{ messages }}")
    found = Folder(folder).texts(new)
    assert (found.bos, found.eos) == ("<|im_start|>", "<odd>")
    assert (new / TEMPLATE).read_text() == "{{ messages }}"
    (folder / TEMPLATE).write_text("its own")
    Folder(folder).texts(new)
    assert (new / TEMPLATE).read_text() == "its own"
