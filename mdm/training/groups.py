"""Parameter groups of the task's optimiser, by the submodule that owns the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from mdm.hints import require_option

Decay = Literal["all", "matrices"]


def parameter_groups(backbone: nn.Module, groups: Mapping[str, Mapping[str, Any]], decay: Decay = "all") -> list[dict[str, Any]]:
    """Optimiser groups by the submodule that owns the parameters; the rest forms the first group.

    With ``decay=matrices`` each is divided: vectors (biases, the weights of norms) get no weight decay.

    Raises ValueError if a name is no submodule, if two groups share parameters, or on an unknown ``decay``.
    """
    require_option("decay", decay, Decay)
    owned: dict[int, str] = {}
    result: list[dict[str, Any]] = []
    for name, options in groups.items():
        try:
            parameters = [p for p in backbone.get_submodule(name).parameters() if p.requires_grad]
        except AttributeError:
            children = ", ".join(n for n, _ in backbone.named_children())
            raise ValueError(
                f"An optimiser group belongs to a submodule of {type(backbone).__name__} ({children}), but {name!r} is none; "
                "correct model.groups."
            ) from None
        shared = {owned[id(p)] for p in parameters if id(p) in owned}
        if shared:
            raise ValueError(f"Optimiser groups must not share parameters, but {name!r} overlaps {shared}; correct model.groups.")
        owned |= {id(p): name for p in parameters}
        result.append({"params": parameters, **options})
    result.insert(0, {"params": [p for p in backbone.parameters() if p.requires_grad and id(p) not in owned]})
    if decay == "matrices":
        # XLNet has a bias for each head, so its biases are matrices; they are known by their name alone.
        vectors = {id(p) for name, p in backbone.named_parameters() if p.ndim < 2 or name.endswith("bias")}
        divided = []
        for group in result:
            divided.append({**group, "params": [p for p in group["params"] if id(p) not in vectors]})
            divided.append({**group, "params": [p for p in group["params"] if id(p) in vectors], "weight_decay": 0.0})
        result = divided
    return [group for group in result if group["params"]]
