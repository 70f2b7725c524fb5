"""The resolved presets against a record: a change of a default or of `like` changes no preset silently.

`record.json` holds the resolved configuration of each preset that existed when builders and presets
were redesigned, with today's names of keys and values. Options that did not exist then have their
defaults, and other settings are `None`.
"""

import json
from pathlib import Path

import pytest

from zoo import presets

RECORD = json.loads(Path(__file__).with_name("record.json").read_text())


def as_lists(value):
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("name", sorted(RECORD))
def test_a_recorded_preset_is_unchanged(name):
    recorded, config = RECORD[name], as_lists(presets.to_dict(presets.get(name)))
    newer = config["model"].keys() - recorded["model"].keys()
    defaults = as_lists(presets.defaults(config["builder"]))
    assert {key: config["model"][key] for key in newer} == {key: defaults[key] for key in newer}
    for key in newer:
        del config["model"][key]
    for key in config["data"].keys() - recorded["data"].keys():
        assert config["data"].pop(key) in (None, [])
    for key in ("preset", "about"):
        del config[key]
    for key in config.keys() - recorded.keys():
        assert config.pop(key) is None
    assert config == recorded
