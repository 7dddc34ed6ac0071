"""What a run and a study survive (docs/reliability.md)."""

import random

import pytest

from tests.torture.everything import torture


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_everything_survives(tmp_path):
    for what, result in torture(tmp_path, random.SystemRandom().randrange(2**32)).items():
        assert (isinstance(result, str) and result.startswith("skipped")) or result[0] == result[1], what
