"""The verbs `export` and `import` on a trained run: files, card, tokenizer, what is refused, and on from there."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tokenizers

import launch as program
from arch.hf.parity import Parity
from arch.models.base import Bidirectional, Causal, Seq2Seq
from arch.spec import UserError
from experiments.hf import export as exporting
from experiments.hf.export import Options, export
from experiments.hf.imports import import_
from experiments.hf.origins import fetched
from experiments.hf.tokenizer import framed
from tests.launching import launched
from train.data.tokenizers import END, PROBES, BPETokenizer, ByteTokenizer, train_bpe

CONFIG = """
from arch.blocks.depth_scaled import ScaledNorm
from arch.layers.attention.softmax import Attention
from arch.models.decoder import Decoder
from train.data import LocalText, Text
from train.run import Logging, Run
from train.starts.start import FromRun

def get_config(form=""):
    return Run(
        model=Decoder(vocab=256, width=16, depth=2, block=ScaledNorm(mixer=Attention(heads=2))),
        data=Text(source=LocalText({files!r}, validation=0.3, per="line"), length=16),
        batch=4, steps=3, logging=Logging(log=1, evaluate=0, checkpoint=2),
        start=FromRun(form) if form else None,
    )
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    (folder / "text.txt").write_text("".join(f"the {n} little words of line {n * n}\n" for n in range(60)))
    (folder / "mine.py").write_text(CONFIG.format(files=str(folder / "text.txt")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(folder / "cache"))
        assert launched("train", f"--config={folder / 'mine.py'}", f"--run_folder={folder / 'run'}") == 0
        assert launched("export", folder / "run", f"--to={folder / 'out'}", "--check=off") == 0
        assert launched("import", folder / "out", f"--workdir={folder / 'back'}") == 0
        yield folder


def test_what_is_in_the_folder(home):
    names = {path.name for path in (home / "out").iterdir()}
    assert names == {
        *("README.md", "config.json", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json"),
    }
    config = json.loads((home / "out" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["max_position_embeddings"] == 16
    card = (home / "out" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: text-generation\n")
    assert "1/l^e of the depth into the gains" in card
    assert "| updates | 3 of 3, 4 rows each |" in card
    assert "Logits were not compared with Transformers." in card
    last = json.loads((home / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert f"| val/loss | {last['val/loss']:.6g} |" in card


def test_the_imported_run_goes_on_like_the_trained_one(home, capsys):
    texts = []
    for name in ("run", "back"):
        capsys.readouterr()
        words = ("--prompt=the 1", "--tokens=9", "--temperature=0")
        assert launched("generate", f"--run_folder={home / name}", *words) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert len(texts[0]) > len("the 1\n")


@pytest.mark.slow
def test_a_run_can_start_from_it_and_is_evaluated_alike(home, capsys):
    other = f"--like={home / 'mine.py'}"
    assert launched("import", home / "out", f"--workdir={home / 'like'}", other) == 0
    capsys.readouterr()
    found = []
    for name in ("run", "like"):
        assert launched("evaluate", f"--run_folder={home / name}") == 0
        lines = capsys.readouterr().out.splitlines()
        (line,) = [line for line in lines if line.startswith("validation")]
        found.append(float(line.split()[2]))
    assert found[0] == pytest.approx(found[1], abs=2e-4)
    words = (f"--config={home / 'mine.py'}:{home / 'back'}", "--config.model.block=PreNorm(mixer=Attention(heads=2))")
    assert launched("train", *words, f"--run_folder={home / 'tuned'}") == 0
    assert "none is fresh" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("export", "nowhere", "--to=x"), "nowhere: holds no config.json; is it a run folder?"),
        (("export", "{home}/run", "--to={home}/run"), "run: holds something already"),
        (("export", "{home}/run"), "export takes one run folder and a new folder"),
        (("import", "{home}/run", "--workdir={home}/new"), "model_type=None has no counterpart here"),
        (("import", "{home}/out", "--workdir={home}/run"), "run: holds a run already"),
        (("import", "{home}/out", "--workdir={home}/out"), "out: is no run folder, yet not empty"),
        (("import", "nothing here", "--workdir={home}/new"), "nothing here: no such folder, and no OWNER/NAME"),
    ],
)
def test_mistakes_are_one_line(home, words, told, capsys):
    assert launched(*(word.format(home=home) for word in words)) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1
    assert not (home / "new").exists()
    assert not [path.name for path in home.iterdir() if path.name.startswith(".")]


def test_other_logits_in_transformers_prevent_an_export(home, tmp_path, monkeypatch):
    def compare(*told, **more):
        raise UserError("Transformers gives other logits, by 3.0e-01 of the largest; nothing was exported")

    monkeypatch.setattr(exporting, "available", lambda: True)
    monkeypatch.setattr(exporting, "compare", compare)
    with pytest.raises(UserError, match="other logits"):
        export(str(home / "run"), str(tmp_path / "out"), note=lambda line: None)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(exporting, "compare", lambda *told, **more: Parity(1e-7, 2e-3, 64))
    said = []
    export(str(home / "run"), str(tmp_path / "out"), Options(dtype="bfloat16"), said.append)
    assert "logits differ from Transformers by 1.0e-07 of the largest, from those of the run by 2.0e-03" in said
    assert "1.0e-07 with the numbers in this folder" in (tmp_path / "out" / "README.md").read_text()


def test_a_name_on_the_hub_is_fetched_without_code_and_pickles(home, tmp_path):
    asked = {}

    def snapshot(**told):
        asked.update(told)
        return str(home / "out")

    import_("somebody/model", str(tmp_path / "run"), note=lambda line: None, snapshot=snapshot)
    assert asked == {"repo_id": "somebody/model", "allow_patterns": ["*.json", "*.safetensors", "chat_template.jinja"]}
    assert (tmp_path / "run" / "run.json").exists()

    def down(**told):
        raise ConnectionError("no\nroute")

    with pytest.raises(UserError, match=r"somebody/model: no such folder here, .* \(ConnectionError: no route\)$"):
        fetched("somebody/model", down)


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_a_tokenizer_gives_the_same_ids_by_its_file(kind):
    texts = [*PROBES, "a\0b", "many little words, many little words", ""]
    ours = ByteTokenizer() if kind == "bytes" else BPETokenizer(train_bpe(iter(texts * 9), 300), END, END, 300)
    theirs = tokenizers.Tokenizer.from_str(ours.definition())
    for text in texts:
        assert theirs.encode(text, add_special_tokens=False).ids == ours.encode(text)
        assert theirs.decode(ours.encode(text)) == ours.decode(ours.encode(text))
    np.testing.assert_array_equal(theirs.token_to_id(END), ours.eos)


def test_the_tokenizer_puts_what_rows_begin_and_end_with(home):
    text = ByteTokenizer().definition()
    bos, eos, word = ByteTokenizer().bos, ByteTokenizer().eos, [*b"ab"]
    for kind, wanted in ((Causal, [bos, *word]), (Bidirectional, [bos, *word, eos]), (Seq2Seq, [*word, eos])):
        model = type("Some", (kind,), {})()
        theirs = tokenizers.Tokenizer.from_str(framed(text, model, bos, eos))
        assert theirs.encode("ab").ids == wanted
        assert theirs.encode("ab", add_special_tokens=False).ids == word
    written = tokenizers.Tokenizer.from_file(str(home / "out" / "tokenizer.json"))
    assert written.encode("ab").ids == [bos, *word]


THERE = """
import sys, warnings
warnings.filterwarnings("ignore")
sys.path = [path for path in sys.path if path not in ("", sys.argv[3])]
from transformers import AutoModelForCausalLM, AutoTokenizer
model, words = AutoModelForCausalLM.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])
assert "jax" not in sys.modules and "arch" not in sys.modules
out = model.generate(**words(sys.argv[2], return_tensors="pt"), max_new_tokens=9, do_sample=False)
print(words.decode(out[0], skip_special_tokens=True))
"""


@pytest.mark.slow
def test_a_process_without_us_writes_the_same_text(home, tmp_path, capsys):
    capsys.readouterr()
    assert launched("generate", f"--run_folder={home / 'run'}", "--prompt=the 1", "--tokens=9", "--temperature=0") == 0
    ours = capsys.readouterr().out
    words = [sys.executable, "-c", THERE, str(home / "out"), "the 1", str(program.__file__).removesuffix("/launch.py")]
    found = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=200)
    assert found.returncode == 0, found.stderr
    assert found.stdout == ours


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_modified_model_is_exported_with_code_of_its_own(home, capsys):
    """ALiBi, post-norm and codebooks: no class of Transformers has them, and codebooks have buffers."""
    changes = [
        "--config.model.block=PostNorm(mixer=Attention(heads=2,position=ALiBi()))",
        "--config.model.stack=Sequential(between=((1,Codebook(codes=8)),))",
    ]
    assert launched("train", f"--config={home / 'mine.py'}", *changes, f"--run_folder={home / 'modified'}") == 0
    assert launched("export", home / "modified", f"--to={home / 'code'}", "--dtype=bfloat16") == 0
    said = capsys.readouterr().out
    assert "generated code: code of its own: " in said
    assert "logits differ from Transformers by" in said
    assert "Transformers only (ALiBi is an additive mask, which servers drop)" in said
    names = {path.name for path in (home / "code").iterdir()}
    assert {"configuration_strata.py", "modeling_strata.py", "config.json", "model.safetensors", "README.md"} <= names
    assert json.loads((home / "code" / "config.json").read_text())["dtype"] == "bfloat16"
