"""Programs that are killed at random moments continue to the result of a whole run.

`python tests/trainers/kills.py` repeats this with more kills, and with comparisons.
"""

import pytest
from kills import Kills


@pytest.mark.slow
def test_killed_programs_continue_to_the_same_result(tmp_path):
    kills = Kills(tmp_path)
    # Each kill has its own part of the program's time, so that few kills cover all of it.
    for name, count in {"train": 3, "evaluate": 2, "export": 2}.items():
        for i in range(count):
            kills.kill(name, i / count, (i + 1) / count)
