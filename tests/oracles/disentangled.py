"""MIRD, CLUB and MISA, which disentangle what modalities share, and their frozen runs."""

from __future__ import annotations

from typing import Any

import torch
from oracles.bert import FULL_LSTM, OTHERS, below, fill, injection_names, rates, whole, write_bert
from oracles.contract import System
from oracles.frozen import Frozen, Own
from oracles.recurrent import BOTH, CELL, LETTERS, one_to_one, settings
from torch import Tensor

# ---- MIRD and CLUB


def club_names(official: str, own: str, i: int, x: int, y: int, hidden: int) -> dict[str, Own]:
    """A network of CLUB within the batched ones: mean and log variance side by side, matrices the other way round."""
    names: dict[str, Own] = {}
    for k, net in enumerate(("p_mu", "p_logvar")):
        columns = slice(k * hidden, (k + 1) * hidden)
        names[f"{official}{net}.0.weight"] = Own(f"{own}.first", (i, slice(0, x), columns), transposed=True)
        names[f"{official}{net}.0.bias"] = Own(f"{own}.first_bias", (i, 0, columns))
        names[f"{official}{net}.2.weight"] = Own(f"{own}.second", (i, k, slice(None), slice(0, y)), transposed=True)
        names[f"{official}{net}.2.bias"] = Own(f"{own}.second_bias", (i, k, 0, slice(0, y)))
    return names


def mird_names(frozen: Frozen) -> dict[str, Own]:
    z, hidden = frozen.used["z"], frozen.used["critic_hidden"] // 2
    names = below(frozen, "mult_encoder.model.", "text.model.", but="WSA")
    names |= injection_names("mult_encoder.model.WSA", "injection") | one_to_one("mult_encoder.encoder", "to_shared.1")
    for m, letter in LETTERS.items():
        if f"encoder_{letter}.lstm.weight_ih" in frozen.parameters:
            inner = f"encoders.{m}.encoder" if m == "language" else f"encoders.{m}"
            names |= one_to_one(f"encoder_{letter}.lstm", f"{inner}.lstm", CELL, "_l0")
            names |= one_to_one(f"encoder_{letter}.fc1", f"{inner}.project")
        names |= one_to_one(f"decoder_{letter}.lstm", f"decoders.{m}.cell", CELL)
        names |= one_to_one(f"decoder_{letter}.fc1", f"decoders.{m}.project")
    if "encoder_l.embedding.weight" in frozen.parameters:
        names["encoder_l.embedding.weight"] = Own("encoders.language.embedding.weight")
    else:
        names |= below(frozen, "encoder_l.bert.", "encoders.language.text.model.")
        names |= one_to_one("encoder_l.encoder", "encoders.language.project.1")
    names |= one_to_one("zy_to_y_fc1", "head.0") | one_to_one("zy_to_y_fc2", "head.3")
    for i in range(6):
        names |= club_names(f"clubs.{i}.", "penalties.own.conditional", i, z, z, hidden)
    return names


def mird(language: str) -> System:
    return System(
        "mosi/mird",
        lambda frozen: [
            *rates(frozen),
            whole(frozen),
            f"model.backbone.language_encoder={language}",
            f"model.backbone.dim={frozen.used['z']}",
            f"model.backbone.embedding_dim={frozen.used['embedding']}",
            f"model.own_penalty.objective.hidden={frozen.used['critic_hidden'] // 2}",
            f"model.own_penalty.critic.optimizer.lr={frozen.used['critic_lr']}",
        ],
        mird_names,
        padded=lambda frozen: [fill(**frozen.used["fixed_length"])],
        constants=("mult_encoder.model.WSA.W_v.bias", "mult_encoder.model.WSA.W_a.bias"),
        prepare=write_bert,
    )


# ---- MISA


def misa_names(frozen: Frozen) -> dict[str, Own]:
    names = below(frozen, "bertmodel.", "text.model.", but="pooler")
    reverse = (*FULL_LSTM, *(f"{end}_reverse" for end in FULL_LSTM))
    for m, letter in OTHERS.items():
        names |= one_to_one(f"{letter}rnn1", f"encoders.{m}.first", reverse)
        names |= one_to_one(f"{letter}rnn2", f"encoders.{m}.second", reverse)
        names |= one_to_one(f"{letter}layer_norm", f"encoders.{m}.norm")
    for m, letter, i in (("language", "t", 1), ("video", "v", 1), ("audio", "a", 3)):
        columns = misa_states(frozen, m)
        names[f"project_{letter}.project_{letter}.weight"] = Own(f"project.{m}.0.weight", (slice(None), columns))
        names[f"project_{letter}.project_{letter}.bias"] = Own(f"project.{m}.0.bias")
        names |= one_to_one(f"project_{letter}.project_{letter}_layer_norm", f"project.{m}.2")
        names |= one_to_one(f"private_{letter}.private_{letter}_{i}", f"private.{m}.0")
        names |= one_to_one(f"recon_{letter}.recon_{letter}_1", f"rebuild.{m}")
    names |= one_to_one("shared.shared_1", "shared.0") | below(frozen, "transformer_encoder.layers.0.", "transformer.")
    columns = (slice(None), misa_order(frozen))
    names["fusion.fusion_layer_1.weight"] = Own("head.0.weight", columns)
    names["fusion.fusion_layer_1.bias"] = Own("head.0.bias")
    return names | one_to_one("fusion.fusion_layer_3", "head.3")


def misa_states(frozen: Frozen, m: str) -> Any:
    """Our place of each state (first forward, first backward, second forward, second backward) in the official order."""
    if m == "language":
        return slice(None)
    width = frozen.arrays[f"input/{m}"].shape[1]
    return torch.arange(4 * width).view(4, width)[[0, 2, 1, 3]].flatten()


def misa_order(frozen: Frozen) -> Tensor:
    """Our coordinate of Z (private l, a, v, shared l, a, v) at each place of the official one (t, v, a)."""
    blocks = torch.arange(6 * frozen.used["hidden"]).view(6, -1)
    return blocks[[0, 2, 1, 3, 5, 4]].flatten()


UNREAD = (
    *(f"{name}.{end}" for name in ("bertmodel.pooler.dense", "tlayer_norm") for end in BOTH),
    *(f"sp_discriminator.sp_discriminator_layer_1.{end}" for end in BOTH),
)
MISA = System(
    "mosi/misa",
    lambda frozen: [
        *settings("model.backbone", {"dim": frozen.used["hidden"], "feedforward": frozen.used["feedforward"]}),
        f"model.optimizer.lr={frozen.used['lr']}",
        f"trainer.max_epochs={frozen.used['epochs']}",
    ],
    misa_names,
    constants=UNREAD,
    rows=lambda frozen: torch.tensor(frozen.arrays["official/rows"]),
    prepare=write_bert,
)
