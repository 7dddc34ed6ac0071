"""The bench of encoder-decoders: equal parameters, FLOPs by hand, and that it runs from the command line."""

import re
import subprocess
import sys

import numpy as np
import pytest

from arch import cost
from bench import pairs as bench
from bench.alternate import ROOT, quartiles


def test_both_have_as_many_parameters():
    counts = [cost.parameters(spec(False)).total for spec in (bench.pair, bench.alone)]
    assert abs(counts[1] / counts[0] - 1) < 0.01
    assert len({spec(False).vocab for spec in (bench.pair, bench.alone)}) == 1


def test_flops_are_those_of_the_shapes():
    source, new, width, vocab = 64, 8, 256, bench.VOCAB
    square, table = 2 * width**2, 2 * width * vocab
    room = 1 + new + 1
    first, step = bench.work("pair", source, new, False)
    encoder = 4 * (12 * square * source + 4 * width * source**2)
    own = 2 * ((4 + 2 + 8) * square + 4 * width * (room + source)) + table
    assert step == own
    assert first == encoder + 2 * 2 * square * source + own
    first, step = bench.work("alone", source, new, False)
    hidden = bench.alone(False).block.feed_forward.hidden
    token, room = 7 * (4 + 2 * hidden / width) * square, source + new + 1
    assert step == token + 7 * 4 * width * room + table
    assert first == token * source + 7 * 4 * width * source * room + table, "logits of the last token alone"


def test_quartiles_are_of_the_rounds():
    assert quartiles([2.0, 6.0, 12.0], [1.0, 2.0, 3.0]) == (2.5, 3.0, 3.5)
    assert quartiles([3.0], [2.0]) == (1.5, 1.5, 1.5)


@pytest.mark.slow
def test_it_runs_from_the_command_line():
    command = [sys.executable, "-m", "bench.encoder_decoder", "--toy", "--rounds=2", "--new=4", "--batches=2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("8 greedy tokens equal") == 2, "v1.0 and v1.1"
    ratios = re.findall(r"times as fast as Transformers, threads \d+: ([\d.]+)", done.stdout)
    measured = re.findall(r"^(first token|later tokens|all tokens), \S+ +(-?[\d.]+)", done.stdout, re.MULTILINE)
    assert len(ratios) == 2
    assert len(measured) == 3
    assert np.isfinite([float(value) for value in (*ratios, *dict(measured).values())]).all()
