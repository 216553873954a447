"""What a frozen run's ``recipe.published`` and ``data`` say in words, as values of our config."""

from __future__ import annotations

import re
from typing import Any

from oracles.frozen import Frozen

ADAM, ADAMW302 = "torch.optim.Adam", "mdm.training.optimizers.AdamW302"
SINGLE = {
    "epochs": "trainer.max_epochs",
    "patience": "trainer.patience",
    "weight_decay": "model.optimizer.weight_decay",
    "eps": "model.optimizer.eps",
    "warmup": "model.schedule.warmup",
    "gate_dropout": "model.backbone.gate_dropout",
    "beta_shift": "model.backbone.beta",
    "inject": "model.backbone.inject",
    "hidden": "model.backbone.dim",
    "feedforward": "model.backbone.feedforward",
    "sim": "model.backbone.similarity",
    "diff": "model.backbone.difference",
    "recon": "model.backbone.reconstruction",
    "alpha": "model.backbone.alpha",
    "beta": "model.own_penalty.weight",
    "width": "model.backbone.dim",
    "heads": "model.backbone.heads",
    "layers": "model.backbone.layers",
    "kernel": "model.backbone.kernel",
    "critic_steps": "model.own_penalty.critic.steps",
    "batch": "data.batch_size",
}
"""Published name → our key, where the value is one number."""
PROSE = {
    r"\bbatch (\d+)": "data.batch_size",
    r"\blr ([\d.]+)": "model.optimizer.lr",
    r"(\d+) epochs": "trainer.max_epochs",
    r"\bmemory (\d+)": "model.backbone.memory",
    r"\brank (\d+)": "model.backbone.rank",
}
"""Of constants that are written in one sentence."""


def read_recipe(frozen: Frozen, data: str) -> dict[str, Any]:
    """Our key → the published value, as far as the file says it in a form that can be read; data: ``mosi`` or ``mosei``."""
    published, given = frozen.meta["recipe"]["published"], frozen.meta["data"]
    found: dict[str, Any] = {}
    for name, key in SINGLE.items():
        value = published.get(name)
        value = value.get(data) if isinstance(value, dict) and data in value else value
        if (
            name in published
            and (value is None or isinstance(value, int | float))
            and not (name == "heads" and "feedforward" in published)
        ):
            found[key] = value
    rate = published.get("lr")
    if isinstance(rate, int | float):
        found["model.optimizer.lr"] = rate
    elif isinstance(rate, dict):
        found |= {"model.optimizer.lr": rate["main"], "model.groups.text.model.lr": rate["bert"]}
    for name in ("best", "best of the logs", "constants"):
        for pattern, key in PROSE.items():
            said = re.search(pattern, published.get(name, ""))
            if said:
                found[key] = float(said[1])
    said = published["optimizer"]
    found["model.optimizer._target_"] = ADAMW302 if "3.0.2" in said else ADAM
    if "no decay" in said:
        found["model.optimizer.weight_decay"] = 0.0
    loss = published["loss"]
    kind = re.match(r"L1|MSE", loss)
    if kind:
        found["model.loss._target_"] = f"torch.nn.{kind[0]}Loss"
        found["model.loss.reduction"] = "sum" if "SUM" in loss else None
    if "clip" in published:
        clip = published["clip"]
        number = re.search(r"(\d?\.\d+|\[-1, 1\])", clip or "")
        found["trainer.gradient_clip"] = None if clip is None else 1.0 if number[1].startswith("[") else float(number[1])
    if published.get("selection"):
        found["trainer.select"] = (
            ("mse" if "MSE" in published["selection"] else "mae") if "validation" in published["selection"] else "test"
        )
    return found | read_data(published, given)


def read_data(published: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The part that concerns what is read."""
    found: dict[str, Any] = {"model.by_length": False}
    if "GloVe" in given["text"]:
        found["data.text"] = "vectors"
    if isinstance(given.get("max_steps"), int):
        found |= {"data.max_steps": given["max_steps"], "data.keep": "last" if "last" in given["keeps"] else "first"}
    if "packed" in given["padding"]:
        found["data.padding"] = "masked"
    elif "read" in given["padding"] or "attended" in given["padding"]:
        found |= {"data.padding": "official", "data.keep": "last" if "in front" in given["padding"] else "first"}
    scaling = given["scaling"]
    if "FACET" in scaling:
        found["data.scale"] = {"language": "none", "audio": "none", "video": "maxabs"}
    elif "per segment" in scaling:
        found["data.scale"] = "each segment by itself"
    elif scaling.startswith(("none", "as in the file")):
        found["data.scale"] = "none"
    batches = published.get("batches") or given.get("batches", "")
    if batches:
        found["data.order"] = "once" if "one permutation" in batches else "shuffled"
        found["data.last_batch"] = "drop" if "partial batch is dropped" in batches else "keep"
    return found
