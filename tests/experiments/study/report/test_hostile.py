"""Results that somebody sent bring no script into the page."""

import dataclasses
import json

from experiments.study.claims.judge import judge_all
from experiments.study.report import page as pages
from experiments.study.report.plot import slug
from experiments.study.results import Results
from tests.experiments.study import fake
from tests.experiments.study.report.conftest import CLAIMS
from tests.experiments.study.report.html import Page

HOSTILE = "</p>'\"><script>alert(1)</script>"
WORDS = ("tune", "seeds", "finished", "diverged", "test", "validation", "", "nan", "inf", "-inf")


def hostile(value):
    """Every text of plain results with a script in it, but for the words that have a meaning."""
    if isinstance(value, list):
        return [hostile(one) for one in value]
    if isinstance(value, dict):
        kept = ("metric", "lower_is_better", "tuned_by", "judged_on", "level")
        return {key: one if key in kept else hostile(one) for key, one in value.items()}
    return value + HOSTILE if isinstance(value, str) and value not in WORDS else value


def test_results_that_somebody_sent_bring_no_script_into_the_page():
    """Names, notes, verdicts and what they are called are text, whatever is in them; so is what is named by them."""
    cells = fake.study((1, 4))
    verdicts = [one.plain() for one in judge_all(CLAIMS[:1], cells)]
    cells = dataclasses.replace(cells, verdicts=verdicts, paper=[{"what": "a"}], provenance={"git": "b"}, notes=["c"])
    text = pages.page(Results.from_json(json.dumps(hostile(json.loads(cells.to_json())))), [])
    assert HOSTILE not in text
    assert Page(text).tags == Page(pages.page(cells, [])).tags
    assert slug(f"val/../{HOSTILE}").replace("_", "").isalnum()
