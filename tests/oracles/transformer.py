"""The systems with a transformer and their frozen runs: sizes, names and what the recipe's values are in a frozen run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from oracles.contract import System
from oracles.frozen import Frozen, Own
from oracles.recurrent import BOTH, CELL, LETTERS, one_to_one, settings
from torch import Tensor
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


MAG_BERT = System(
    "mosi/magbert",
    rates,
    lambda frozen: (
        below(frozen, "bert.", "text.model.", but="MAG") | gate_names("bert.MAG", "gate") | one_to_one("classifier", "head.1")
    ),
    prepare=write_bert,
)

MAG_XLNET = System(
    "mosi/magxlnet",
    lambda frozen: [*rates(frozen), "model.backbone.text_encoder=tiny"],
    lambda frozen: (
        below(frozen, "transformer.", "text.model.", but="MAG")
        | gate_names("transformer.MAG", "gate")
        | one_to_one("sequence_summary.summary", "pooler.0")
        | one_to_one("logits_proj", "head.1")
    ),
)


# ---- WSA-BERT


def injection_names(official: str, own: str) -> dict[str, Own]:
    names = gate_names(official, f"{own}.gate", "W_{}_")
    return names | {f"{official}.W_{letter}.weight": Own(f"{own}.keys.{m}.weight") for m, letter in OTHERS.items()}


def whole(frozen: Frozen) -> str:
    """The main case: all segments have one length, so the file's fixed length is theirs."""
    return fill(**{m: int(frozen.arrays[f"input/{m}_lengths"].max()) for m in OTHERS})


def wsabert(head: Callable[[], dict[str, Own]], *more: str, module: str = "WSA") -> System:
    return System(
        "mosi/wsabert",
        lambda frozen: [*rates(frozen), whole(frozen), *more],
        lambda frozen: below(frozen, "bert.", "text.model.", but=module) | injection_names(f"bert.{module}", "injection") | head(),
        padded=lambda frozen: [fill(**frozen.used["fixed_length"])],
        constants=(f"bert.{module}.W_v.bias", f"bert.{module}.W_a.bias"),
        prepare=write_bert,
    )


WSA_LINEAR = wsabert(lambda: one_to_one("classifier", "head.1"))
WSA_SOFT = wsabert(lambda: one_to_one("classifier", "head.1"), "model.backbone.attention=soft", module="WA")
WSA_MLP = wsabert(
    lambda: one_to_one("encoder", "head.1") | one_to_one("classifier.0", "head.3") | one_to_one("classifier.3", "head.6"),
    "model.backbone.head=mlp",
    "model.backbone.dropout={first:0.1,hidden:0.5,last:0.5}",
)


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


# ---- MMIM


def mmim_names(frozen: Frozen) -> dict[str, Own]:
    names = below(frozen, "text_enc.bertmodel.", "text.model.", but="pooler")
    for m, official, letter in (("video", "visual", "v"), ("audio", "acoustic", "a")):
        names |= one_to_one(f"{official}_enc.rnn", f"encoders.{m}.lstm", FULL_LSTM)
        names |= one_to_one(f"{official}_enc.linear_1", f"encoders.{m}.project")
        q = f"penalties.own.q.{0 if m == 'audio' else 1}"
        for i in (0, 2):
            names |= one_to_one(f"mi_t{letter}.mlp_mu.{i}", f"{q}.mean.{i}")
            names |= one_to_one(f"mi_t{letter}.mlp_logvar.{i}", f"{q}.log_variance.{i}")
        names |= one_to_one(f"mi_t{letter}.entropy_prj.0", f"penalties.own.spaces.{m}")
    for m, letter in (("language", "t"), ("audio", "a"), ("video", "v")):
        names |= one_to_one(f"cpc_z{letter}.net", f"cpc.{m}")
    return names | {
        f"fusion_prj.linear_{i}.{end}": Own(f"{own}.{end}")
        for i, own in ((1, "fusion.1"), (2, "fusion.3"), (3, "head"))
        for end in BOTH
    }


def mmim_overrides(frozen: Frozen) -> list[str]:
    sizes = frozen.used["sizes"]
    return [
        *settings("model.backbone", {"hidden": {"video": sizes["d_vh"], "audio": sizes["d_ah"]}, "dim": sizes["d_vout"]}),
        f"model.backbone.z_dim={sizes['d_prjh']}",
        "model.own_penalty.objective.unused=fixed",
        "trainer.max_epochs=2",
    ]


MMIM = System(
    "mosi/mmim",
    mmim_overrides,
    mmim_names,
    constants=tuple(f"text_enc.bertmodel.pooler.dense.{end}" for end in BOTH),
    steps={10: 20},
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


# ---- Self-MM


def selfmm_names(frozen: Frozen) -> dict[str, Own]:
    names = below(frozen, "text_model.model.", "text.model.", but="pooler")
    for m in OTHERS:
        names |= one_to_one(f"{m}_model.rnn", f"encoders.{m}.lstm", FULL_LSTM)
        names |= one_to_one(f"{m}_model.linear_1", f"encoders.{m}.project")
    for i, own in ((1, "fusion.1"), (2, "head.0"), (3, "head.2")):
        names |= one_to_one(f"post_fusion_layer_{i}", own)
    for m, official in (("language", "text"), ("audio", "audio"), ("video", "video")):
        for i, own in ((1, "feature.1"), (2, "predict.0"), (3, "predict.2")):
            names |= one_to_one(f"post_{official}_layer_{i}", f"unimodal_heads.{m}.{own}")
    return names


def selfmm_overrides(frozen: Frozen) -> list[str]:
    sizes = frozen.used["sizes"]
    values: Mapping[str, Any] = {
        "hidden": {"audio": sizes["a_lstm_hidden_size"], "video": sizes["v_lstm_hidden_size"]},
        "dim": {"audio": sizes["audio_out"], "video": sizes["video_out"]},
        "z_dim": sizes["post_fusion_dim"],
        "feature": {
            "language": sizes["post_text_dim"],
            "audio": sizes["post_audio_dim"],
            "video": sizes["post_video_dim"],
        },
    }
    return [*settings("model.backbone", dict(values)), "trainer.max_epochs=7"]


SELF_MM = System(
    "mosi/selfmm",
    selfmm_overrides,
    selfmm_names,
    constants=tuple(f"text_model.model.pooler.dense.{end}" for end in BOTH),
    prepare=write_bert,
)


# ---- MulT


def split_stacked(frozen: Frozen) -> Frozen:
    """Queries, keys and values are one matrix there, and here two layers: every array of it becomes two."""
    arrays: dict[str, Any] = {}
    for key, value in frozen.arrays.items():
        if "in_proj_" not in key:
            arrays[key] = value
            continue
        rows = value.shape[0] // 3
        arrays[f"{key}.query"], arrays[f"{key}.key_value"] = value[:rows], value[rows:]
    frozen.arrays = arrays
    for trajectory in frozen.meta["trajectory"].values():
        trajectory["undetermined"] = [f"{name}.{part}" for name in trajectory["undetermined"] for part in ("query", "key_value")]
        trajectory["norm_of_movement"] = {}
    split = {}
    for name, spread in frozen.meta["init"].items():
        parts = ("query", "key_value") if "in_proj_" in name else ("",)
        split |= {f"{name}.{part}".removesuffix("."): spread for part in parts}
    frozen.meta["init"] = split
    return frozen


def mult_names(frozen: Frozen) -> dict[str, Own]:
    names: dict[str, Own] = {}
    for m, letter in LETTERS.items():
        names[f"proj_{letter}.weight"] = Own(f"project.{m}.conv.weight")
        stacks = {f"trans_{letter}_mem": f"memory.{m}"}
        stacks |= {f"trans_{letter}_with_{other}": f"cross.{m}_{s}" for s, other in LETTERS.items() if s != m}
        for official, own in stacks.items():
            names |= one_to_one(f"{official}.layer_norm", f"{own}.norm")
            layers = frozen.used["memory_layers" if official.endswith("mem") else "layers"]
            for i in range(layers):
                there, here = f"{official}.layers.{i}", f"{own}.layers.{i}"
                for end in BOTH:
                    names[f"{there}.self_attn.in_proj_{end}.query"] = Own(f"{here}.query.{end}")
                    names[f"{there}.self_attn.in_proj_{end}.key_value"] = Own(f"{here}.key_value.{end}")
                names |= one_to_one(f"{there}.self_attn.out_proj", f"{here}.out")
                names |= one_to_one(f"{there}.layer_norms.0", f"{here}.norm")
                names |= one_to_one(f"{there}.layer_norms.1", f"{here}.feed_forward.0")
                names |= one_to_one(f"{there}.fc1", f"{here}.feed_forward.1")
                names |= one_to_one(f"{there}.fc2", f"{here}.feed_forward.4")
    return (
        names
        | one_to_one("proj1", "head.residual.0")
        | one_to_one("proj2", "head.residual.3")
        | one_to_one("out_layer", "head.out")
    )


def mult_overrides(frozen: Frozen) -> list[str]:
    values = {key: frozen.used[key] for key in ("dim", "heads", "layers", "memory_layers")}
    lengths = frozen.used["lengths (l, a, v)"]
    steps = ",".join(f"{m}:{n}" for m, n in zip(LETTERS, lengths, strict=True))
    return [*settings("model.backbone", values), f"data.max_steps={{{steps}}}", "trainer.max_epochs=5"]


MULT_CONSTANTS = tuple(
    f"trans_{name}.version" for name in (*(f"{a}_with_{b}" for a in "lav" for b in "lav" if a != b), *(f"{a}_mem" for a in "lav"))
)
MULT = System("mosi/mult", mult_overrides, mult_names, padded=lambda frozen: [], constants=MULT_CONSTANTS)

SYSTEMS = {
    "magbert": MAG_BERT,
    "magxlnet": MAG_XLNET,
    "wsabert": WSA_LINEAR,
    "wsabert_soft": WSA_SOFT,
    "wsabert_mlp": WSA_MLP,
    "mird_bert": mird("bert"),
    "mird_lstm": mird("lstm"),
    "mmim": MMIM,
    "misa": MISA,
    "selfmm": SELF_MM,
    "mult": MULT,
}
