"""Parameter groups of the task's optimiser, and what does not learn, by the submodule that owns the parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from mdm.hints import require_option

Decay = Literal["all", "matrices", "weights"]
DECAYS: dict[str, Callable[[str, Tensor], bool]] = {
    "all": lambda name, p: True,
    # XLNet has a bias for each head, so its biases are matrices; they are known by their name alone.
    "matrices": lambda name, p: p.ndim > 1 and not name.endswith("bias"),
    "weights": lambda name, p: not name.endswith("bias"),
}
"""What weight decay acts on → whether that is a parameter: all of them; no bias and no norm; no bias."""


def find_submodule(backbone: nn.Module, name: str, key: str) -> nn.Module:
    """A submodule by its name.

    Raises ValueError, naming the key of the config, if there is none, and for ``freeze`` if it owns no parameters. A group may be
    of a submodule that a variant of the model leaves empty, such as the decoders of MFM without them.
    """
    try:
        module = backbone.get_submodule(name)
        useless = key == "freeze" and next(module.parameters(), None) is None
    except AttributeError:
        useless = True
    if useless:
        children = ", ".join(n for n, child in backbone.named_children() if next(child.parameters(), None) is not None)
        what = {"groups": "An optimiser group belongs to", "freeze": "What does not learn is a parameter or"}[key]
        raise ValueError(
            f"{what} a submodule of {type(backbone).__name__} that has parameters ({children}), but {name!r} is none; "
            f"correct model.{key}."
        )
    return module


def freeze(backbone: nn.Module, names: Sequence[str]) -> None:
    """Let submodules or parameters stay as they are: no optimiser gets them.

    Raises ValueError as `find_submodule`, and if nothing is left that learns.
    """
    parameters = dict(backbone.named_parameters())
    for name in names:
        frozen = parameters[name] if name in parameters else find_submodule(backbone, name, "freeze")
        frozen.requires_grad_(False)
    if names and not any(p.requires_grad for p in backbone.parameters()):
        raise ValueError(
            f"Something must learn, but {', '.join(names)} are all of {type(backbone).__name__}; shorten model.freeze."
        )


def parameter_groups(backbone: nn.Module, groups: Mapping[str, Mapping[str, Any]], decay: Decay = "all") -> list[dict[str, Any]]:
    """Optimiser groups by the submodule that owns the parameters; the rest forms the first group.

    ``decay`` says what weight decay acts on (`DECAYS`); a group may have another one among its options. Each group is divided: what
    it does not act on gets none.

    Raises ValueError if a name is no submodule, if two groups share parameters, or on an unknown ``decay``.
    """
    owned: dict[int, str] = {}
    result: list[dict[str, Any]] = []
    for name, options in groups.items():
        parameters = [p for p in find_submodule(backbone, name, "groups").parameters() if p.requires_grad]
        shared = {owned[id(p)] for p in parameters if id(p) in owned}
        if shared:
            raise ValueError(f"Optimiser groups must not share parameters, but {name!r} overlaps {shared}; correct model.groups.")
        owned |= {id(p): name for p in parameters}
        result.append({"params": parameters, **options})
    result.insert(0, {"params": [p for p in backbone.parameters() if p.requires_grad and id(p) not in owned]})
    names = {id(p): name for name, p in backbone.named_parameters()}
    divided = []
    for group in result:
        kind = group.pop("decay", decay)
        require_option("decay", kind, Decay)
        kept = [p for p in group["params"] if DECAYS[kind](names[id(p)], p)]
        ids = {id(p) for p in kept}
        divided.append({**group, "params": kept})
        divided.append({**group, "params": [p for p in group["params"] if id(p) not in ids], "weight_decay": 0.0})
    return [group for group in divided if group["params"]]
