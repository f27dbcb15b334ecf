"""The section ``monitor`` of params.yaml."""

from pathlib import Path

import pytest

from catimage.errors import InputError
from catimage.params import MonitorParams, load_params, parse_params

ROOT = Path(__file__).parents[2]


def test_params_yaml_of_the_repository_has_the_defaults():
    assert load_params(ROOT / "params.yaml").monitor == MonitorParams()


def test_the_threshold_is_the_number_of_observations_between_false_alarms():
    settings = MonitorParams(false_alarm_days=10, interval_minutes=30)
    assert settings.threshold(100) == 10 * 48 * 100


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"interval_minutes": 0}, "monitor.interval_minutes"),
        ({"prompts": {"tolerance": 0.6}}, "monitor.prompts.tolerance"),
        ({"prompts": {"max_baseline": 0.3}}, "monitor.prompts.max_baseline"),
        ({"streams": {"delta": 0}}, "monitor.streams.delta"),
        ({"decisions": {"max_change": 1}}, "monitor.decisions.max_change"),
        ({"audit": {"prompts": -1}}, "monitor.audit.prompts"),
        ({"cost": {"max_exces": 1}}, "Did you mean 'max_excess'"),
    ],
)
def test_invalid_settings_are_refused(section, key):
    with pytest.raises(InputError, match=key):
        parse_params({"monitor": section}, "params.yaml")
