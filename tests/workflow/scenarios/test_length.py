"""What a profile is planned to take, by the same count that the progress is told by."""

from pathlib import Path

import pytest
import yaml

from slipway import benchmark, scenarios
from slipway.load_plan import PROTOCOLS
from slipway.settings import parse_settings
from slipway.windows import CALIBRATION_S

CONFIG = Path(__file__).parents[3] / "config"


def planned_s(profile):
    config = yaml.safe_load((CONFIG / "config.yaml").read_text())
    config["benchmark"] |= yaml.safe_load((CONFIG / profile).read_text())["benchmark"] if profile else {}
    settings = parse_settings(config, "config").benchmark
    windows, seconds = scenarios.length(settings, PROTOCOLS)
    assert windows > 0
    starts = settings.cold_starts if settings.wants("cold_start") else 0
    return seconds + 2 * starts * benchmark._COLD_START_S + len(PROTOCOLS) * 1.5 * CALIBRATION_S


@pytest.mark.parametrize(
    ("profile", "most_s"),
    [("smoke.yaml", 60), ("", 5 * 60), ("ci.yaml", 6 * 60), ("full.yaml", 60 * 60), ("soak.yaml", 2.5 * 3600)],
)
def test_a_profile_takes_no_longer_than_the_manual_says(profile, most_s):
    assert planned_s(profile) <= most_s
