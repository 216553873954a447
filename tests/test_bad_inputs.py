"""What a person may get wrong on the command line: one clear message each, and no record begun.

Bad files are in tests/formats, bad tables and stores in tests/data, bad arguments of models and critics beside their tests.
"""

import numpy as np
import pytest
from hydra.errors import ConfigCompositionException

from mdm.data.base import Ragged, Segments
from mdm.data.writing import write_store
from mdm.runs.protocol import run

BAD = {
    "seed=-1": "seed must be a whole number of at least 0, but is -1",
    "seed=1.5": "seed must be a whole number of at least 0, but is 1.5",
    "seed=abc": "seed must be a whole number of at least 0, but is 'abc'",
    "data.batch_size=1": "batch_size must be a whole number of at least 2, but is 1",
    "data.max_steps=0": "data.max_steps must be a whole number of at least 1 or a mapping",
    "data.text=vectors": "carries text as words, but data.text=vectors was asked for",
    "data.modalities=[language,smell]": "has the modalities language, audio, video, but smell was asked for",
    "data.modalities=[]": "but none was asked for",
    "data.scale=minmax": "scale must be standard, maxabs or none",
    "data.segments.rho=1.0": "rho",
    "data.segments.contradiction=2": "contradiction",
    "data.segments.audio_dim=1": "audio_dim",
    "data=mosi": "A store is a folder with a manifest.json, but .* has none; make one with",
    "model.backbone.variant=both": "model.backbone.variant: expected one of concat, separate, got 'both'",
    "model.backbone.head=big": "model.backbone.head: expected one of mlp, linear, got 'big'",
    "data.segments.aligned=false": "needs word-aligned data, but these are unaligned",
    "+model.groups.tail={lr: 1}": "belongs to a submodule of EFLSTM",
    "penalty=kl penalty.weight=0": "penalty.weight must be a finite number above 0, but is 0; use penalty=none",
    "penalty=kl penalty.weight=-1": "penalty.weight must be a finite number above 0, but is -1",
    "penalty=kl penalty.weight=nan": "penalty.weight must be a finite number above 0, but is nan",
    "penalty=kl data.modalities=[language]": "Dependence between modalities needs at least two of them",
    "penalty=kl data.batch_size=2": "needs at least 3 rows that have the same modalities",
    "penalty=kl penalty.critic.steps=0": "penalty.critic.steps must be a whole number of at least 1, but is 0",
    "penalty=kl penalty.critic.batches=old": "penalty.critic.batches: expected one of fresh, shared, replay, got 'old'",
    "penalty=kl penalty.critic.interleave=hour": "interleave: expected one of batch, after, epoch, got 'hour'",
    "penalty=kl penalty.objective.measure=js": "penalty.objective.measure: expected one of kl, f, wasserstein, got 'js'",
    "penalty=kl penalty.objective.lipschitz=clip": "lipschitz: expected one of gradient_penalty, spectral_norm, ",
    "penalty=kl penalty.objective.critic=huge": "critic: expected one of plain, table4, got 'huge'",
    "penalty=kl penalty.objective.output=relu": "output: expected one of linear, tanh, sigmoid, got 'relu'",
    "penalty=kl penalty.objective.bound=0": "bound > 0",
    "penalty=wasserstein penalty.objective.training=logistic": "trains on its own bound, or logistically",
    "penalty=f penalty.objective.divergence=pearson": "needs output=tanh and bound <= 4",
    "penalty=f penalty.objective.divergence=renyi": "divergence: expected one of kl, reverse_kl, pearson",
    "penalty=sum": "adds up penalties under names of their own",
    "penalty=hsic data.modalities=[language]": "needs at least two of them",
    "trainer.max_epochs=0": "trainer.max_epochs must be a whole number of at least 1, but is 0",
    "trainer.patience=0": "patience=null never stops early",
    "trainer.gradient_clip=0": "gradient_clip must be a finite number above 0 or null, but is 0",
    "trainer.select=best": "A checkpoint is chosen by one of mae, corr, .*, got best",
    "trainer.select=accuracy": "got accuracy; set trainer.select",
    "model=lmf model.backbone.rank=0": "model.backbone.rank must be a whole number of at least 1, but is 0",
    "model=lmf model.backbone.language_hidden=1": "LMF needs",
    "trainer.max_epochs=two": "trainer.max_epochs must be a whole number of at least 1, but is 'two'",
    "data.batch_size=abc": "data.batch_size must be a whole number of at least 2, but is 'abc'",
    "data.max_steps=2.5": "data.max_steps must be a whole number of at least 1 or a mapping",
    "penalty=kl penalty.weight=heavy": "penalty.weight must be a finite number above 0, but is 'heavy'",
    "data=synthetic_iemocap trainer.select=accuracy": "labels that name one class each",
    "penalty=kl data.segments.valid=2": "but a batch of 2 has none such",
    "penalty=kl penalty.critic.interleave=epoch": "interleave=epoch needs penalty.critic.batches=fresh",
    "machine.devices=0": "machine.devices must be how many, or which ones, each once, but is 0",
    "data=gaussian data.segments.dim=0": "dim",
    "model=mult model.backbone.heads=3": "heads that divide dim",
    "model=lmf model.backbone.hidden={smell:3}": "hidden must be one number, or a number for each of audio, video",
    "model.loss._target_=torch.nn.CrossEntropyLoss +model.loss.label_smoothing=2": "label_smoothing",
    "machine.strategy=zigzag": "machine.*, trainer.* and callbacks must suit this machine, but Lightning says",
    "machine.accelerator=mps": "machine.*, trainer.* and callbacks must suit this machine, but Lightning says",
}


@pytest.mark.parametrize("overrides", BAD)
def test_one_clear_message_and_no_record(config, tmp_path, overrides):
    words = overrides.split(" ") if "groups" not in overrides else [overrides]
    cfg = config(*words, f"paths.data={tmp_path}/stores", small=overrides != "data=mosi")
    with pytest.raises(ValueError, match=BAD[overrides]) as raised:
        run(cfg)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "outputs").exists(), "a run that cannot begin must leave nothing"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("penalty.wieght=3", "wieght"),
        ("model=magpie", "Could not find 'model/magpie'"),
        ("trainer.epochs=3", "epochs"),
    ],
)
def test_a_mistyped_key_or_option_is_named(config, override, message):
    with pytest.raises(ConfigCompositionException) as raised:
        config(override)
    assert message in str(raised.value) + str(raised.value.__cause__)


def store_of(path, **changes):
    """A small store, then damaged behind the checks of the writer."""
    n = 12
    offsets = np.arange(n + 1, dtype=np.int64) * 3
    base = {
        "name": "mosi",
        "ids": tuple(f"v{i // 3}[{i % 3}]" for i in range(n)),
        "fold": np.array(["train"] * 6 + ["valid"] * 3 + ["test"] * 3),
        "group": np.array([f"v{i // 3}" for i in range(n)]),
        "label": np.linspace(-2, 2, n, dtype=np.float32)[:, None],
        "targets": ("sentiment",),
        "label_range": (-3.0, 3.0),
        "modalities": {"audio": Ragged(np.ones((3 * n, 2), np.float32), offsets)},
        "text": {"words": Ragged.of_words([["so", "very", "good"]] * n)},
        "aligned": ("words", "audio"),
    }
    return write_store(Segments(**{**base, **changes}), path)


def test_values_that_turned_nan_on_disk_are_found_before_the_run(config, tmp_path):
    """A store that has changed is held to its digests when it is opened, and named."""
    path = store_of(tmp_path / "stores" / "mosi")
    values = np.load(path / "audio.values.npy")
    values[:] = np.nan
    np.save(path / "audio.values.npy", values)
    cfg = config("data=mosi", f"paths.data={tmp_path}/stores", "data.batch_size=4", small=False)
    with pytest.raises(
        ValueError, match=r"mosi: a store must hold what was written into it, but audio\.values\.npy .* has changed since"
    ):
        run(cfg)
    assert not list((tmp_path / "outputs").rglob("metrics.json"))


def test_a_store_without_a_test_fold(config, tmp_path):
    store_of(tmp_path / "stores" / "mosi", fold=np.array(["train"] * 8 + ["valid"] * 4))
    with pytest.raises(ValueError, match="each of train, valid and test must hold a segment, but test hold none"):
        run(config("data=mosi", f"paths.data={tmp_path}/stores", small=False))
