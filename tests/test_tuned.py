"""Files of the group `tuned`: what they do not reproduce is on their list, in the record, under the table and in the docs."""

import importlib.util
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from mdm.runs.config import check
from mdm.runs.protocol import run
from mdm.runs.records import read_config

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "configs" / "tuned").rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: "/".join(p.parts[-3:]))
def test_each_file_lists_what_it_does_not_reproduce(path):
    """Under the key of the setting, or one that there might be, of a group; one line each."""
    departs = yaml.safe_load(path.read_text())["departs"]
    for key, reason in departs.items():
        assert key.split(".")[0] in ("model", "data", "trainer")
        assert len(key.split(".")) > 1
        assert isinstance(reason, str)
        assert len(reason) > 20
        assert "\n" not in reason


def test_the_page_of_settings_is_that_of_the_configs():
    spec = importlib.util.spec_from_file_location("settings", ROOT / "scripts" / "settings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    expected = module.render_settings()
    assert (ROOT / "docs" / "settings.md").read_text() == expected, "run `python scripts/settings.py > docs/settings.md`"
    for path in FILES:
        for key, reason in yaml.safe_load(path.read_text())["departs"].items():
            assert f"- `{key}`: {reason}" in expected


def departing(config, departs):
    """A small run's config with such a list."""
    cfg = config("model=lmf", "trainer.max_epochs=1")
    OmegaConf.update(cfg, "departs", departs, merge=False)
    return cfg


def test_a_record_holds_what_its_settings_do_not_reproduce(config, tmp_path):
    record = run(departing(config, {"data.text": "the authors read other vectors"}))
    assert record["departs"] == {"data.text": "the authors read other vectors"}
    folder = next((tmp_path / "outputs").rglob("metrics.json")).parent
    assert read_config(folder)["departs"] == record["departs"]
    again = run(departing(config, {"data.text": "said in other words"}))
    assert again["departs"] == record["departs"], "the wording is not part of what a run computes"


def test_a_run_without_such_settings_has_no_list(config):
    assert "departs" not in run(config("model=lmf", "trainer.max_epochs=1"))


@pytest.mark.parametrize("departs", [3, {"data.text": 3}])
def test_a_list_of_another_form_is_refused(config, departs):
    with pytest.raises(ValueError, match=r"departs.* must be a (mapping|text).*, but is .*3"):
        check(departing(config, departs))
