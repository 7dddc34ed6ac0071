"""lm-evaluation-harness and MTEB themselves, where they are installed: a trained run, and the same weights exported.

Neither is a requirement of development: with the packages that they need they outweigh all others. Run with lm-eval
0.4.13 and mteb 2.26.24.
"""

import dataclasses
import json

import numpy as np
import pytest

from experiments import base_lm
from experiments.config import render
from experiments.hf.export import export
from experiments.suites.harness import Harness
from experiments.suites.mteb import TextEncoder
from train import loop
from train.data import BPE, Text
from train.data.pydoc import PydocTopics
from train.trained import open_run

LENGTH = 64
TASK = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{reads}"
doc_to_target: "{wants}"
{more}
metric_list: [{{metric: {metric}}}]
"""
KINDS = {
    "multiple_choice": ("{{question}}", "gold", "doc_to_choice: choices", "acc"),
    "loglikelihood_rolling": ("", "{{text}}", "", "bits_per_byte"),
    "generate_until": ("{{question}}", "{{text}}",
                       'generation_kwargs: {until: ["\\n"], max_gen_toks: 12, do_sample: false}', "exact_match"),
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(an opened run, its export, documents: a beginning, three continuations of which the first is its own, all)."""
    folder = tmp_path_factory.mktemp("harness")
    run = base_lm.get_config("tiny")
    data = Text(source=PydocTopics(), tokenizer=BPE(300), length=LENGTH)
    run = dataclasses.replace(run, model=dataclasses.replace(run.model, vocab=300), data=data)
    loop.train(run, folder / "run")
    render.write(folder / "run", run)
    export(str(folder / "run"), str(folder / "hf"))
    opened = open_run(run, folder / "run")
    tokenizer, rows = opened.dataset.tokenizer, opened.dataset.rows["validation"].gather(np.arange(16))["tokens"]
    words = [tokenizer.decode([one for one in row.tolist() if one != tokenizer.eos]).split() for row in rows]
    words = [one for one in words if len(one) >= 12]
    documents = [
        {"question": " ".join(own[:6]), "choices": [" ".join(own[6:9]), " ".join(other[:3]), "of the zebra"],
         "gold": 0, "text": " ".join(own[:12])}
        for own, other in zip(words, words[1:] + words[:1], strict=True)
    ]  # fmt: skip
    return opened, folder / "hf", documents


@pytest.mark.slow
def test_the_three_methods_of_lm_evaluation_harness(trained, tmp_path, monkeypatch):
    pytest.importorskip("lm_eval")
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    opened, exported, documents = trained
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents))
    for kind, (reads, wants, more, metric) in KINDS.items():
        fields = {"reads": reads, "wants": wants, "more": more, "metric": metric, "file": tmp_path / "documents.jsonl"}
        (tmp_path / f"{kind}.yaml").write_text(TASK.format(name=kind, kind=kind, **fields))

    def answers(model, tasks):
        manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
        found = simple_evaluate(model=model, tasks=tasks, task_manager=manager, log_samples=True, bootstrap_iters=0)
        return {task: [one["resps"] for one in samples] for task, samples in found["samples"].items()}

    def theirs(bos):
        model, tokenizer = AutoModelForCausalLM.from_pretrained(exported), AutoTokenizer.from_pretrained(exported)
        return huggingface.HFLM(pretrained=model, tokenizer=tokenizer, add_bos_token=bos, max_length=LENGTH)

    ours = answers(Harness(opened, length=LENGTH), list(KINDS))
    # With add_bos_token their windows begin with bos twice, and count the second: a text is read without it.
    other = answers(theirs(True), ["multiple_choice", "generate_until"])
    other |= answers(theirs(False), ["loglikelihood_rolling"])
    assert ours["generate_until"] == other["generate_until"]
    for kind in ("multiple_choice", "loglikelihood_rolling"):
        mine, wanted = (np.array([np.ravel(one).astype(float) for one in found[kind]]) for found in (ours, other))
        np.testing.assert_allclose(mine, wanted, atol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_retrieval_of_mteb(trained):
    mteb = pytest.importorskip("mteb")
    sentences = pytest.importorskip("sentence_transformers")
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    opened, exported, documents = trained
    unknown = ("reference", "date", "domains", "task_subtypes", "license", "annotations_creators", "dialect",
               "sample_creation", "bibtex_citation")  # fmt: skip
    where = {"path": "none/none", "revision": "1"}

    class Local(AbsTaskRetrieval):
        metadata = TaskMetadata(name="LocalRetrieval", description="The text that begins so.", dataset=where,
                                type="Retrieval", eval_splits=["test"], eval_langs=["eng-Latn"],
                                main_score="ndcg_at_10", **dict.fromkeys(unknown))  # fmt: skip

        def load_data(self, **kwargs):
            whole = [{"id": f"d{i}", "title": "", "text": one["text"]} for i, one in enumerate(documents)]
            asked = [{"id": f"q{i}", "text": one["question"]} for i, one in enumerate(documents)]
            right = {f"q{i}": {f"d{i}": 1} for i in range(len(documents))}
            parts = {"corpus": Dataset.from_list(whole), "queries": Dataset.from_list(asked)}
            self.dataset = {"default": {"test": {**parts, "relevant_docs": right, "top_ranked": None}}}
            self.data_loaded = True

    def scores(model):
        found = mteb.evaluate(model, [Local()], cache=None, co2_tracker=False)
        return found.task_results[0].scores["test"][0]

    ours = TextEncoder(opened, length=LENGTH)
    assert isinstance(ours, mteb.models.EncoderProtocol)
    reader = Transformer(str(exported), max_seq_length=LENGTH)
    reader.tokenizer.pad_token = reader.tokenizer.pad_token or reader.tokenizer.eos_token
    pooling = Pooling(opened.program.run.model.width, pooling_mode="lasttoken")
    theirs = sentences.SentenceTransformer(modules=[reader, pooling], device="cpu")
    texts = [one["text"] for one in documents]
    np.testing.assert_allclose(ours.encode(texts), theirs.encode(texts), atol=1e-4)
    mine, wanted = scores(ours), scores(theirs)
    for name in ("ndcg_at_10", "map_at_100", "recall_at_5"):
        assert mine[name] == pytest.approx(wanted[name], abs=1e-5)
    assert 0 < mine["ndcg_at_10"] < 1
