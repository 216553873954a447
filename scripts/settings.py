"""What official code, papers and our defaults set, system by system: python scripts/settings.py > docs/settings.md

A table for each model: the keys that some file of ``configs/tuned`` sets to another value than our default, and below it what each
of these files does not reproduce (its ``departs``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mdm.boundary import exit_on_error

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
GROUPS = ("model", "data", "trainer")
HEAD = """# Published settings

Made by `python scripts/settings.py` from `configs/`; a test holds the two together. `tuned=official/mosi/mfn` trains as the code of
the authors does, and is held against frozen outputs of that code (`tests/oracles/`): forward pass, loss parts, gradients, 20 steps
of training, places of dropout and initial weights. `mmsa` is MMSA 2.2.1, `han2021` and `qian2024` what these
papers print (the [bibliography](bibliography.md) names them), `sun2020` what is known of ICCN, `keras` the Keras code of
TFN, `minilm` a comparison of our own. An empty cell is the default. What a file does not reproduce stands below its table, in the
records of its runs and under every table of them.
"""


def render_settings() -> str:
    """The page."""
    files: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted((CONFIGS / "tuned").rglob("*.yaml")):
        option = path.relative_to(CONFIGS / "tuned").with_suffix("")
        if option.parts[0] != "search":
            files.setdefault(path.stem, {})["/".join(option.parts[:-1])] = yaml.safe_load(path.read_text(encoding="utf-8"))
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        parts = [render_model(model, by_source) for model, by_source in sorted(files.items())]
    return "\n".join([HEAD, *parts])


def render_model(model: str, files: Mapping[str, Mapping[str, Any]]) -> str:
    """The section of a model; files: source and data → file, the authors' code first."""
    ranked = sorted(files, key=lambda source: (not source.startswith("official"), source))
    default = dict(flatten(OmegaConf.to_container(compose("train", [f"model={model}", "data=mosi"]), resolve=True)))
    found = {source: dict(flatten({group: files[source].get(group, {}) for group in GROUPS})) for source in ranked}
    keys = list(dict.fromkeys(key for values in found.values() for key in values))
    rows = []
    for key in keys:
        cells = [format_cell(found[source][key]) if key in found[source] else "" for source in ranked]
        ours = format_cell(default[key]) if key in default else ""
        cells = ["" if cell == ours else cell for cell in cells]
        if any(cells):
            rows.append(f"| `{key}` | {ours} | {' | '.join(cells)} |")
    lines = [f"## {model}", "", f"| key | default | {' | '.join(ranked)} |", "|---" * (len(ranked) + 2) + "|", *rows, ""]
    for source in ranked:
        departs = files[source]["departs"]
        lines += [f"`tuned={source}/{model}` departs in:" if departs else f"`tuned={source}/{model}` departs in nothing known.", ""]
        lines += [*(f"- `{key}`: {reason}" for key, reason in departs.items()), *([""] if departs else [])]
    return "\n".join(lines)


def flatten(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key → value; a mapping without a key of a schema, such as modality → number, is a value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value and not prefix.startswith("model.groups") and is_group(f"{prefix}{key}"):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def is_group(key: str) -> bool:
    """Whether a key holds keys of a schema or a member's arguments."""
    members = ("model.backbone", "model.loss", "model.optimizer", "model.schedule", "model.plateau")
    return key in (*GROUPS, *members) or (key.startswith("model.own_penalty") and not key.endswith("_dropout"))


def format_cell(value: Any) -> str:
    """A value as YAML has it, in one line."""
    if value is None:
        return "null"
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False).strip().removesuffix("\n...").strip()
    return text.replace("|", "\\|")


def main(arguments: Sequence[str]) -> int:
    """Print the page."""
    if set(arguments) & {"-h", "--help"}:
        print(__doc__)
        return 0
    argparse.ArgumentParser("python scripts/settings.py").parse_args(arguments)
    print(render_settings(), end="")
    return 0


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main(sys.argv[1:]))
