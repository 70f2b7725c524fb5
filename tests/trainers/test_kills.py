"""Programs that are killed at random moments continue to the result of a whole run.

`python tests/trainers/kills.py` repeats this with more kills, and with comparisons.
"""

import pytest
from kills import Kills


@pytest.mark.slow
def test_killed_programs_continue_to_the_same_result(tmp_path):
    kills = Kills(tmp_path)
    for name in ["train"] * 4 + ["evaluate"] * 3 + ["export"] * 3:
        kills.kill(name)
