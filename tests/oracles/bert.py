"""What frozen runs of systems with a BERT share: its files, names, rates and lengths."""

from __future__ import annotations

from pathlib import Path

from oracles.frozen import Frozen, Own
from oracles.recurrent import CELL, one_to_one
from transformers import BertConfig, BertModel, BertTokenizer

OTHERS = {"audio": "a", "video": "v"}
FULL_LSTM = tuple(f"{end}_l0" for end in CELL)


def write_bert(frozen: Frozen, folder: Path) -> list[str]:
    """A BERT of the frozen run's size with its vocabulary."""
    sizes = {key: value for key, value in frozen.meta["bert"].items() if key not in ("vocabulary", "lower_case")}
    path = folder / "bert"
    BertModel(BertConfig(**sizes)).save_pretrained(path)
    BertTokenizer(vocab={piece: i for i, piece in enumerate(frozen.meta["bert"]["vocabulary"])}).save_pretrained(path)
    return [f"model.backbone.text_encoder={path}"]


def below(frozen: Frozen, official: str, own: str, but: str = "") -> dict[str, Own]:
    """All official parameters below a prefix that have the same rest of their names here."""
    found = [name for name in frozen.parameters if name.startswith(official) and not (but and but in name)]
    return {name: Own(own + name.removeprefix(official)) for name in found}


def rates(frozen: Frozen) -> list[str]:
    used = frozen.used
    return [
        f"model.optimizer.lr={used['lr']}",
        f"model.groups={{text.model:{{lr:{used['lr']}}}}}",
        f"trainer.max_epochs={used['epochs']}",
    ]


def fill(**lengths: int) -> str:
    return "data.max_steps={language:50," + ",".join(f"{m}:{n}" for m, n in lengths.items()) + "}"


# ---- MAG


def gate_names(official: str, own: str, projection: str = "W_{}") -> dict[str, Own]:
    names = one_to_one(f"{official}.LayerNorm", f"{own}.norm")
    for m, letter in OTHERS.items():
        names |= one_to_one(f"{official}.W_h{letter}", f"{own}.gates.{m}")
        names |= one_to_one(f"{official}.{projection.format(letter)}", f"{own}.project.{m}")
    return names


# ---- WSA-BERT


def injection_names(official: str, own: str) -> dict[str, Own]:
    names = gate_names(official, f"{own}.gate", "W_{}_")
    return names | {f"{official}.W_{letter}.weight": Own(f"{own}.keys.{m}.weight") for m, letter in OTHERS.items()}


def whole(frozen: Frozen) -> str:
    """The main case: all segments have one length, so the file's fixed length is theirs."""
    return fill(**{m: int(frozen.arrays[f"input/{m}_lengths"].max()) for m in OTHERS})
