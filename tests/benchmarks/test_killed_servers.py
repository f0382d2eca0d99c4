"""The promises of a killed server, for some kills; `--long`: for two hundred."""

import random
from pathlib import Path

import pytest

from tests.benchmarks.killed_servers import KILLS_A_FOLDER, Campaign

#: What a busy machine may make of the second that is lost at most; the command is strict.
LOST_S_MAX = 5.0


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("harm", ["kill", "stop", "stopped", "clock"])
async def test_a_server_killed_in_the_middle_of_answers_keeps_every_promise(
    harm: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    is_long = pytestconfig.getoption("long")
    kills, readers = (200 if harm == "kill" else 10, 50) if is_long else (2 if harm == "kill" else 1, 20)
    random.seed(kills)
    for number in range(0, kills, KILLS_A_FOLDER):
        folder = tmp_path / str(number)
        async with Campaign(folder, harm, readers, still_s=40 if is_long else 2, lost_s_max=LOST_S_MAX) as campaign:
            for kill in range(number, min(kills, number + KILLS_A_FOLDER)):
                await campaign.kill(kill)
