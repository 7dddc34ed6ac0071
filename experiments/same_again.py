"""Same again: an A/A study, two arms between which there is nothing to be found.

Both are one Llama-like decoder on one optimiser, data and order of the data. Their first weights are of one
distribution and are other numbers in `b` (`Reseeded`): the noise between them is that between any two arms of a study,
and the effect is zero. So it measures the tool instead of a network: each arm gets its own learning rate, as in any
study, then its seeds, and the claims are judged.

  Better("b", than="a")            is false. Every verdict but "undecided" is an error, and over many of these studies
                                   such verdicts are as frequent as the tool's error rate says, or rarer.
  Equivalent("b", to="a", 0.02)    is true. How often it is found is the power of that many seeds for that margin, which
                                   is one percent of what the arms reach.

One study is one draw. The next ones take others for both arms, and share the data and its order with the first:

  --config.arms.a.model.init.draw=3 --config.arms.b.model.init.draw=4

Forms:

  (none)   140 thousand parameters, bytes of the Wikipedia leads, 8 seeds, 3 learning rates: minutes on 2 cores.
  :tiny    2 seeds, seconds; what the tests run.

  python launch.py train --config=experiments/same_again.py
"""

import dataclasses

from experiments import (
    Attention,
    Better,
    Bytes,
    Cosine,
    Decoder,
    Equivalent,
    GatedMLP,
    Logging,
    Muon,
    PreNorm,
    Reseeded,
    Run,
    Study,
    Text,
    WikiLeads,
    unknown_form,
)

FORMS = ("", "tiny")
QUESTION = "Does the same model do better with other first weights?"
MARGIN = 0.02


def get_config(form: str = "") -> Study:
    if form not in FORMS:
        raise unknown_form(form, FORMS)
    return {"": full, "tiny": tiny}[form]()


def full() -> Study:
    """Small enough for 22 models in minutes."""
    base = Run(
        model=Decoder(
            vocab=256,
            width=64,
            depth=2,
            block=PreNorm(mixer=Attention(heads=4), feed_forward=GatedMLP(hidden=192)),
        ),
        data=Text(source=WikiLeads(validation=0.01, test=0.01), tokenizer=Bytes(), length=128),
        optimizer=Muon(schedule=Cosine(warmup=0.1, final=0.05)),
        batch=16,
        steps=250,
        logging=Logging(log=10, evaluate=0, checkpoint=0, keep=1),
    )
    return study(base, rates=(2e-2, 3e-2, 4.5e-2), seeds=8)


def tiny() -> Study:
    """Everything the other form does, in seconds."""
    base = Run(
        model=Decoder(
            vocab=256,
            width=32,
            depth=1,
            block=PreNorm(mixer=Attention(heads=2), feed_forward=GatedMLP(hidden=88)),
        ),
        data=Text(source=WikiLeads(validation=0.002, test=0.002), tokenizer=Bytes(), length=32),
        batch=8,
        steps=4,
        logging=Logging(log=2, evaluate=0, checkpoint=0, keep=1),
    )
    return study(base, rates=(1e-3, 3e-2, 1.0), seeds=2)


def study(base: Run, rates: tuple[float, ...], seeds: int) -> Study:
    """`base` twice, with two draws of its first weights."""
    model = base.model
    assert isinstance(model, Decoder)
    arms = {
        name: dataclasses.replace(base, model=dataclasses.replace(model, init=Reseeded(model.init, draw)))
        for name, draw in (("a", 1), ("b", 2))
    }
    return Study(
        question=QUESTION,
        arms=arms,
        claims=(Better("b", than="a"), Equivalent("b", to="a", margin=MARGIN)),
        learning_rates=rates,
        seeds=seeds,
        notes=("The arms are equal in distribution: a verdict on which is better is an error of the tool.",),
    )
