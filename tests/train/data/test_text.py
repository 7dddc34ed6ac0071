import logging
import multiprocessing
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from arch.spec import SpecError, UserError
from tests.train.data.conftest import sentences
from train.data import BPE, Bytes, LocalText, Text, WikiLeads, stream
from train.data.tokenizers import ByteTokenizer


def spec(path, **fields):
    return Text(**{"source": LocalText(str(path), validation=0.2, per="line"), "length": 64, **fields})


def texts_in(dataset, batches):
    """The documents of batches, whole ones and pieces alike, by decoding every segment."""
    found = []
    for batch in batches:
        for tokens, segments in zip(batch["tokens"], batch["segments"], strict=True):
            found += [tokens[segments == s] for s in range(1, segments.max() + 1)]
    return found


@pytest.mark.parametrize("tokenizer", [Bytes(), BPE(300)])
def test_the_validation_is_the_text(local, tokenizer):
    dataset = spec(local, tokenizer=tokenizer, length=4096).build()
    corpus = LocalText(str(local), validation=0.2, per="line").build()
    found = texts_in(dataset, dataset.validation(4))
    assert all(ids[0] == dataset.tokenizer.bos and ids[-1] == dataset.tokenizer.eos for ids in found)
    assert sorted(dataset.tokenizer.decode(ids) for ids in found) == sorted(corpus.texts("validation"))


@pytest.mark.parametrize("tokenizer", [Bytes(), BPE(300)])
def test_targets_stand_for_the_bytes_of_the_text(local, tokenizer):
    """What bits per byte are divided by: the bytes of the targets that a loss would count."""
    dataset = spec(local, tokenizer=tokenizer).build()
    total = 0
    for batch in dataset.validation(4):
        tokens, segments = batch["tokens"], batch["segments"]
        counted = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
        total += int(dataset.token_bytes[tokens[:, 1:]][counted].sum())
    assert total == dataset.stats["validation"].text_bytes
    texts = LocalText(str(local), validation=0.2, per="line").build().texts("validation")
    assert total == sum(len(text.encode()) for text in texts)


def test_batches_have_the_promised_shape(local):
    dataset = spec(local, length=32).build()
    assert dataset.vocab == 256
    assert dataset.token_bytes.shape == (256,)
    for batch in (next(dataset.train(4, seed=0, process_count=2)), next(iter(dataset.validation(4, 1, 2)))):
        row = batch.pop("row")
        assert (row.shape, row.dtype) == ((2,), np.int32)
        assert set(batch) == {"tokens", "segments", "positions"}
        assert all(a.shape == (2, 33) and a.dtype == np.int32 for a in batch.values())
    last = list(dataset.validation(1024))[-1]
    assert len(last["tokens"]) == 1024
    assert not last["segments"][len(dataset.rows["validation"]) :].any()


def test_unpacked_rows_hold_one_document_each(local):
    dataset = spec(local, pack=False, length=40).build()
    found = texts_in(dataset, dataset.validation(4))
    texts = list(LocalText(str(local), validation=0.2, per="line").build().texts("validation"))
    assert [ids.tolist() for ids in found] == [[0, *text.encode(), 0][:41] for text in texts]


def test_stats_say_what_there_is(local):
    dataset = spec(local, length=4096).build()
    texts = sentences(120, seed=2)
    stats = dataset.stats
    assert sum(split.documents for split in stats.values()) == 120
    assert sum(split.text_bytes for split in stats.values()) == sum(len(t.encode()) for t in texts)
    assert stats["train"].tokens == stats["train"].text_bytes + 2 * stats["train"].documents
    assert stats["train"].rows == len(dataset.rows["train"])
    assert 0.5 < stats["train"].efficiency <= 1


def test_nul_characters_are_dropped(tmp_path):
    path = tmp_path / "nul.txt"
    path.write_text("\n".join(text.replace(" ", " \0") for text in sentences(40)) + "\n\0\n", encoding="utf-8")
    dataset = spec(path, source=LocalText(str(path), validation=0.2, test=0.2, per="line"), length=4096).build()
    found = texts_in(dataset, [*dataset.validation(4)])
    assert all((ids[1:-1] > 0).all() for ids in found)
    assert sum(s.documents for s in dataset.stats.values()) == 40


def test_the_second_build_reads_only_tokens(local, monkeypatch):
    first = spec(local, tokenizer=BPE(300)).build()
    monkeypatch.setattr("train.data.sources.LocalText.build", None)
    second = spec(local, tokenizer=BPE(300)).build()
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.rows["train"].tokens, first.rows["train"].tokens)


def test_the_fingerprint_follows_what_a_row_is(local, wiki):
    specs = [spec(local), spec(local, length=65), spec(local, pack=False), spec(local, tokenizer=BPE(300)),
             spec(local, source=LocalText(str(local), validation=0.3, per="line")),
             spec(local, source=WikiLeads(validation=0.2))]  # fmt: skip
    assert len({s.build().fingerprint for s in specs}) == len(specs)
    assert spec(local).build().fingerprint == spec(local).build().fingerprint


def test_a_damaged_token_file_is_made_again(local, cache_folder, caplog):
    tokens = np.array(spec(local).build().rows["train"].tokens)
    file = next((cache_folder / "tokens").rglob("train.tokens"))
    file.write_bytes(file.read_bytes()[:-7])
    with caplog.at_level(logging.WARNING):
        again = spec(local).build()
    assert "damaged" in caplog.text
    np.testing.assert_array_equal(again.rows["train"].tokens, tokens)


def test_a_kill_while_writing_leaves_nothing_behind(local, cache_folder):
    script = textwrap.dedent(f"""
        import os
        from train.data import LocalText, Text, stream
        real = stream.write
        def write(folder, split, *rest):
            if split == "validation":
                os.kill(os.getpid(), 9)
            return real(folder, split, *rest)
        stream.write = write
        Text(LocalText({str(local)!r}, validation=0.2, per="line"), length=64).build()
    """)
    killed = subprocess.run([sys.executable, "-c", script], env=os.environ, check=False)
    assert killed.returncode == -9
    left = [path.name for path in (cache_folder / "tokens").iterdir() if path.is_dir()]
    assert len(left) == 1
    assert ".tmp-" in left[0]
    dataset = spec(local).build()
    assert sum(split.documents for split in dataset.stats.values()) == 120
    assert len([path for path in (cache_folder / "tokens").iterdir() if path.is_dir()]) == 1


def _prepare(path, barrier, results):
    barrier.wait()
    results.put(spec(path, tokenizer=BPE(300)).build().fingerprint)


def test_two_processes_prepare_at_once(local):
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(2), spawn.Queue()
    processes = [spawn.Process(target=_prepare, args=(local, barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    found = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert found == {spec(local, tokenizer=BPE(300)).build().fingerprint}


def test_a_tokenizer_that_loses_bytes_is_found_out(local, monkeypatch):
    def lower(self, texts):
        return [np.frombuffer(text.replace("é", "e").encode(), np.uint8) for text in texts]

    monkeypatch.setattr(ByteTokenizer, "encode_batch", lower)
    with pytest.raises(UserError, match="the tokenizer does not keep the bytes of the train document"):
        spec(local).build()


def test_a_split_without_text_is_one_clear_line(tmp_path):
    (tmp_path / "t.txt").write_text("text\n")
    (tmp_path / "v.txt").write_text("\0\n")
    source = LocalText(str(tmp_path / "t.txt"), validation_files=str(tmp_path / "v.txt"), per="line")
    with pytest.raises(UserError, match="no text in split 'validation'"):
        Text(source).build()


def test_progress_is_told_what_happens(local):
    seen = []
    spec(local, tokenizer=BPE(300)).build(lambda what, done, total: seen.append((what, done, total)))
    splits = ("train", "validation", "test")
    assert {what for what, *_ in seen} == {"train BPE 300", *(f"prepare local_text {split}" for split in splits),
                                           *(f"tokenise {split}" for split in splits)}  # fmt: skip
    assert all(done <= total for _, done, total in seen if total)


def test_nothing_is_printed(local, capfd):
    spec(local, tokenizer=BPE(300)).build()
    assert capfd.readouterr() == ("", "")


def test_the_token_file_is_as_small_as_the_vocabulary_allows(local):
    assert spec(local).build().rows["train"].tokens.dtype == np.uint8
    assert spec(local, tokenizer=BPE(300)).build().rows["train"].tokens.dtype == np.uint16
    tokenizer = ByteTokenizer()
    tokenizer.vocab = 2**16 + 1
    assert stream._dtype(tokenizer) is np.uint32


def test_length_must_hold_a_target():
    with pytest.raises(SpecError, match=r"Text\.length=0: must be at least 1"):
        Text(length=0)
