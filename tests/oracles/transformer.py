"""The systems with a transformer and their frozen runs: sizes, names and what the recipe's values are in a frozen run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from oracles.bert import FULL_LSTM, OTHERS, below, fill, gate_names, injection_names, rates, whole, write_bert
from oracles.contract import System
from oracles.disentangled import MISA, mird
from oracles.frozen import Frozen, Own
from oracles.recurrent import BOTH, LETTERS, one_to_one, settings

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
