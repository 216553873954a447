"""The schema of a run's config: what a person may get wrong is one line with the key; and the folder that a config names."""

import re
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict

from mdm.config import check, folder_of, penalties, replaced, spelled

CONFIGS = Path(__file__).resolve().parents[1] / "configs"

BAD = {
    "+trainer.fast_dev_run=true": "trainer has no key fast_dev_run",
    "penalty=kl +penalty.wieght=64": "penalty has no key wieght",
    "+ckpt_path=nothing": "A config has no key ckpt_path",
    "+data.foo=1": "data has no key foo",
    "+model.foo=1": "model has no key foo",
    "+machine.gpu=1": "machine has no key gpu",
    "+logger.loggers.wandb=3": "logger.loggers.wandb must be a subclass of mdm.loggers.Logger, by its _target_, but is 3",
    "+logger.foo=1": "logger has no key foo",
    "+paths.out=x": "paths has no key out",
    "+trainer.select.metrc=mae": "trainer.select has no key metrc",
    "+trainer.callbacks=[]": "trainer has no key callbacks",
    "+task=x": "A config has no key task",
    "+_target_=os.system": "A config has no key _target_",
    "+_convert_=all": "A config has no key _convert_",
    "+data._target_=os.system": "data has no key _target_",
    "+callbacks={a: 1}": "A config has no key callbacks",
    "+data.segments.sed=1": "has no key sed, but data.segments.sed came",
    "+model.backbone.hiden=3": "has no key hiden, but model.backbone.hiden came",
    "+model.backbone.spec=3": "has no key spec, but model.backbone.spec came",
    "+model.backbone._partial_=true": "has no key _partial_, but model.backbone._partial_ came",
    "+model.backbone._args_=[1]": "has no key _args_, but model.backbone._args_ came",
    "+model.backbone._recursive_=false": "has no key _recursive_, but model.backbone._recursive_ came",
    "+model.backbone._convert_=all": "has no key _convert_, but model.backbone._convert_ came",
    "+model.optimizer.rl=0.1": "has no key rl, but model.optimizer.rl came",
    "+model.optimizer.params=[]": "has no key params, but model.optimizer.params came",
    "+model.loss.reduktion=mean": "has no key reduktion, but model.loss.reduktion came",
    "penalty=kl +penalty.objective.weight=3": "has no key weight, but penalty.objective.weight came",
    "penalty=kl +penalty.objective.z_dim=3": "has no key z_dim, but penalty.objective.z_dim came",
    "penalty=kl +penalty.optimizer.momentum=0.9": "has no key momentum, but penalty.optimizer.momentum came",
    "penalty=kl +penalty.critic_lr=0.1": "penalty has no key critic_lr",
    "+model.own_penalty.weight=1": "model.own_penalty.name must be set, but is not there",
    "model=mmim +model.own_penalty.wieght=1": "model.own_penalty has no key wieght",
    "model=mmim model.own_penalty.weight=zero": "model.own_penalty.weight must be a finite number above 0, but is 'zero'",
    "model=mmim model.own_penalty.weight=0": "model.own_penalty.weight must be a finite number above 0, but is 0",
    "model=mmim model.own_penalty.objective.hidden=0": "model.own_penalty.objective.hidden must be a whole number of at least",
    "model=mmim model.own_penalty.optimizer.lr=-1": "model.own_penalty.optimizer must be what torch.optim.Adam can work with",
    "model=baseline +model.backbone={_target_: mdm.backbones.lmf.LMF}": "model has no key backbone",
    "model=baseline +model.optimizer.lr=1": "model has no key optimizer",
    "model=baseline +model.baseline.spec=1": "has no key spec, but model.baseline.spec came",
    "model=baseline model.baseline.kind=3": "model.baseline.kind must be a text, but is 3",
    "model=baseline penalty=kl": "A penalty acts on a fused representation, and model=baseline has none, but penalty=kl came",
    "+model.select.metric=3": "model.select.metric must be a text, but is 3",
    "+model.select.mode=best": "model.select.mode must be min or max, but is 'best'",
    "+model.select.mod=min": "model.select has no key mod",
    "model.optimizer.lr=abc": "model.optimizer.lr must be a finite number, but is 'abc'",
    "model.optimizer.lr=nan": "model.optimizer.lr must be a finite number, but is nan",
    "model.optimizer.lr=inf": "model.optimizer.lr must be a finite number, but is inf",
    "model.optimizer.lr=-1": "model.optimizer must be what torch.optim.AdamW can work with",
    "model.optimizer.lr=true": "model.optimizer.lr must be a finite number, but is True",
    "model.optimizer.lr=null": "model.optimizer.lr must be a finite number, but is None",
    "model.optimizer.lr=[0.1]": "model.optimizer.lr must be a finite number, but is [0.1]",
    "model.optimizer.lr=''": "model.optimizer.lr must be a finite number, but is ''",
    "model.optimizer.weight_decay=-1": "model.optimizer must be what torch.optim.AdamW can work with",
    "model.optimizer.weight_decay=x": "model.optimizer.weight_decay must be a finite number, but is 'x'",
    "+model.optimizer.betas=0.9": "model.optimizer.betas must be a list of 2 (a finite number",
    "+model.optimizer.betas=[0.9]": "model.optimizer.betas must be a list of 2 (a finite number",
    "+model.optimizer.betas=[0.9,abc]": "model.optimizer.betas must be a list of 2 (a finite number",
    "+model.optimizer.betas=[0.9,2]": "model.optimizer must be what torch.optim.AdamW can work with",
    "+model.optimizer.eps=-1": "model.optimizer must be what torch.optim.AdamW can work with",
    "+model.optimizer.amsgrad=perhaps": "model.optimizer.amsgrad must be true or false, but is 'perhaps'",
    "+model.optimizer.fused=1": "model.optimizer.fused must be true or false or null, but is 1",
    "model.optimizer._target_=torch.optim.LBFGS": "model.optimizer must be an optimiser of torch.optim whose step needs no clo",
    "model.optimizer._target_=torch.optim.SparseAdam": "has no key weight_decay, but model.optimizer.weight_decay came",
    "model.optimizer._target_=torch.optim.Optimizer": "model.optimizer must be an optimiser of torch.optim whose step needs no",
    "model.optimizer._target_=torch.optim.Muon": "model.optimizer must be what torch.optim.Muon can work with",
    "model.optimizer._target_=torch.optim.lr_scheduler.LambdaLR": "model.optimizer must be an optimiser of torch.optim whose s",
    "model.optimizer._target_=torch.optim.Adamm": "model.optimizer must be an optimiser of torch.optim whose step needs no clo",
    "model.optimizer._target_=torch.nn.L1Loss": "model.optimizer must be an optimiser of torch.optim whose step needs no closu",
    "model.optimizer._target_=os.system": "model.optimizer must be an optimiser of torch.optim whose step needs no closure",
    "model.optimizer._target_=3": "model.optimizer must be an optimiser of torch.optim whose step needs no closure",
    "model.optimizer._target_=null": "model.optimizer must be an optimiser of torch.optim whose step needs no closure",
    "model.optimizer=null": "model.optimizer must be an optimiser of torch.optim whose step needs no closure, by its _target_,",
    "model.optimizer=3": "model.optimizer must be an optimiser of torch.optim whose step needs no closure, by its _target_, bu",
    "model.loss=null": "model.loss must be a loss, such as torch.nn.L1Loss, by its _target_, but is None",
    "model.loss=torch.nn.L1Loss": "model.loss must be a loss, such as torch.nn.L1Loss, by its _target_, but is 'torch.nn.L1Los",
    "model.loss._target_=torch.nn.Module": "model.loss must be a loss, such as torch.nn.L1Loss",
    "model.loss._target_=torch.nn.CTCLoss": "model.loss must be what torch.nn.CTCLoss can work with",
    "model.loss._target_=torch.nn.NLLLoss": "model.loss must be what torch.nn.NLLLoss can work with",
    "model.loss._target_=torch.nn.Linear": "model.loss must be a loss, such as torch.nn.L1Loss",
    "model.loss._target_=torch.nn.functional.l1_loss": "model.loss must be a loss, such as torch.nn.L1Loss",
    "model.loss._target_=mdm.backbones.lmf.LMF": "model.loss must be a loss, such as torch.nn.L1Loss",
    "+model.loss.reduction=none": "model.loss must be what torch.nn.L1Loss can work with",
    "+model.loss.reduction=average": "model.loss must be what torch.nn.L1Loss can work with",
    "+model.loss.reduction=3": "model.loss.reduction must be a text, but is 3",
    "model.loss._target_=torch.nn.SmoothL1Loss +model.loss.beta=-1": "model.loss must be what torch.nn.SmoothL1Loss can work w",
    "model.loss._target_=torch.nn.HuberLoss +model.loss.delta=0": "model.loss must be what torch.nn.HuberLoss can work with",
    "model=mird +model.loss.floor=low": "model.loss.floor must be a finite number, but is 'low'",
    "model.backbone=null": "model.backbone must be a subclass of mdm.backbones.base.Backbone, by its _target_, but is None",
    "model.backbone._target_=mdm.backbones.base.Backbone": "model.backbone must be a subclass of mdm.backbones.base.Backbone",
    "model.backbone._target_=mdm.backbones.tfn.Bounded": "model.backbone must be a subclass of mdm.backbones.base.Backbone",
    "model.backbone._target_=mdm.penalties.club.Club": "model.backbone must be a subclass of mdm.backbones.base.Backbone",
    "model.backbone._target_=eflstm": "model.backbone must be a subclass of mdm.backbones.base.Backbone",
    "model.backbone._target_=mdm.backbones.nowhere.EFLSTM": "model.backbone must be a subclass of mdm.backbones.base.Backbone",
    "model.backbone._target_=mdm.backbones.ef_lstm": "model.backbone must be a subclass of mdm.backbones.base.Backbone",
    "model.backbone._target_=mdm.backbones..ef_lstm.EFLSTM": "model.backbone must be a subclass of mdm.backbones.base.Backbone",
    'model.backbone._target_=""': "model.backbone must be a subclass of mdm.backbones.base.Backbone",
    "model.backbone.hidden=12.5": "model.backbone.hidden must be a whole number of at least 1 or a mapping (to each name a who",
    "model.backbone.hidden=0": "model.backbone.hidden must be a whole number of at least 1 or a mapping (to each name a whole",
    "model.backbone.hidden=-3": "model.backbone.hidden must be a whole number of at least 1 or a mapping (to each name a whole",
    "model.backbone.hidden=abc": "model.backbone.hidden must be a whole number of at least 1 or a mapping (to each name a whol",
    "model.backbone.hidden=true": "model.backbone.hidden must be a whole number of at least 1 or a mapping (to each name a who",
    "model.backbone.hidden=null": "model.backbone.hidden must be a whole number of at least 1 or a mapping (to each name a who",
    "model.backbone.hidden=[1,2]": "model.backbone.hidden must be a whole number of at least 1 or a mapping (to each name a wh",
    "model.backbone.hidden={audio: abc}": "model.backbone.hidden must be a whole number of at least 1 or a mapping (to each na",
    "model.backbone.hidden={audio: 0}": "model.backbone.hidden must be a whole number of at least 1 or a mapping (to each name",
    "model.backbone.hidden=99999999999999999999": "model.backbone.hidden must be a whole number of at least 1 or a mapping (to",
    "model.backbone.num_layers=0": "model.backbone.num_layers must be a whole number between 1 and 1,000, but is 0",
    "model.backbone.num_layers=1000000000": "model.backbone.num_layers must be a whole number between 1 and 1,000, but is 1000",
    "model.backbone.bidirectional=1": "model.backbone.bidirectional must be true or false, but is 1",
    "model.backbone.bidirectional=perhaps": "model.backbone.bidirectional must be true or false, but is 'perhaps'",
    "model.backbone.dropout=2": "model.backbone.dropout must be a finite number between 0 and 1, but is 2",
    "model.backbone.dropout=-0.1": "model.backbone.dropout must be a finite number between 0 and 1, but is -0.1",
    "model.backbone.dropout=nan": "model.backbone.dropout must be a finite number between 0 and 1, but is nan",
    "model.backbone.dropout=high": "model.backbone.dropout must be a finite number between 0 and 1, but is 'high'",
    "model.backbone.variant=3": "model.backbone.variant must be a text, but is 3",
    "model.backbone.embedding_dim=0": "model.backbone.embedding_dim must be a whole number of at least 1, but is 0",
    "model=mult model.backbone.heads=0": "model.backbone.heads must be a whole number of at least 1, but is 0",
    "model=mult model.backbone.kernel=x": "model.backbone.kernel must be a whole number of at least 1 or a mapping (to each na",
    "model=mult model.backbone.attention_dropout={language: 2}": "model.backbone.attention_dropout must be a finite number bet",
    "model=misa model.backbone.freeze_layers=-1": "model.backbone.freeze_layers must be a whole number of at least 0, but is -",
    "model=misa model.backbone.dim=0": "model.backbone.dim must be a whole number of at least 1, but is 0",
    "model=mfm_images data=synthetic_digits model.backbone.channels=16": "model.backbone.channels must be a list (each a whole",
    "model=mfm_images data=synthetic_digits model.backbone.channels=[16,x]": "model.backbone.channels must be a list (each a w",
    "model=mfm_images data=synthetic_digits model.backbone.images.svhn=3": "model.backbone.images must be a mapping (to each n",
    "model=mmim model.backbone.cpc=language": "model.backbone.cpc must be a list (each a text) or null, but is 'language'",
    "model=magbert model.backbone.max_pieces=many": "model.backbone.max_pieces must be a whole number or null, but is 'many'",
    "model=magbert model.backbone.inject=-1": "model.backbone.inject must be a whole number of at least 0, but is -1",
    "model.by_length=perhaps": "model.by_length must be true or false, but is 'perhaps'",
    "model.by_length=1": "model.by_length must be true or false, but is 1",
    "model.by_length=null": "model.by_length must be true or false, but is None",
    "model.decay=some": "model.decay must be all or matrices, but is 'some'",
    "model.decay=null": "model.decay must be all or matrices, but is None",
    "model.groups=null": "model.groups must be a mapping (to each name a mapping (to each name any value)), but is None",
    "+model.groups.lstm=0.1": "model.groups must be a mapping (to each name a mapping (to each name any value)), but is {'lstm",
    "+model.groups.lstm={rate: 0.1}": "The optimiser's group has no key rate",
    "+model.groups.lstm={lr: abc}": "model.groups.lstm.lr must be a finite number, but is 'abc'",
    "+model.groups.lstm={lr: -1}": "model.groups.lstm must be what torch.optim.AdamW can work with",
    "+model.groups.lstm={params: 1}": "The optimiser's group has no key params",
    "model.schedule=linear": "model.schedule must be a schedule, such as mdm.schedules.Linear, by its _target_, but is 'linear",
    "model.schedule={_target_: mdm.schedules.Linear, warmup: x}": "model.schedule.warmup must be a finite number, but is 'x'",
    "model.schedule={_target_: mdm.schedules.Linear, warm: 0.1}": "has no key warm, but model.schedule.warm came",
    "model.schedule={_target_: torch.optim.lr_scheduler.StepLR}": "model.schedule must be a schedule, such as mdm.schedules.Li",
    "model.name=3": "model.name must be a text, but is 3",
    "model.name=null": "model.name must be a text, but is None",
    "data.segments.rho=abc": "data.segments.rho must be a finite number, but is 'abc'",
    "data.segments.train=0": "data.segments.train must be a whole number between 1 and 1,000,000, but is 0",
    "data.segments.train=1.5": "data.segments.train must be a whole number between 1 and 1,000,000, but is 1.5",
    "data.segments.train=true": "data.segments.train must be a whole number between 1 and 1,000,000, but is True",
    "data.segments.train=1000000000000": "data.segments.train must be a whole number between 1 and 1,000,000, but is 100000000",
    "data.segments.valid=-1": "data.segments.valid must be a whole number between 1 and 1,000,000, but is -1",
    "data.segments.seed=-1": "data.segments.seed must be a whole number of at least 0, but is -1",
    "data.segments.aligned=banana": "data.segments.aligned must be true or false, but is 'banana'",
    "data.segments.missing=[audio]": "data.segments.missing must be a mapping (to each name a finite number between 0 and 1) o",
    "data.segments.missing={audio: 2}": "data.segments.missing must be a mapping (to each name a finite number between 0 and 1",
    "data.segments.missing={audio: x}": "data.segments.missing must be a mapping (to each name a finite number between 0 and 1",
    "data.segments.contradiction=-0.1": "data.segments.contradiction must be a finite number between 0 and 1, but is -0.1",
    "data.segments._target_=joblib.load": "data.segments must be a data source, a function that returns Segments",
    "data.segments._target_=mdm.data.store.write_store": "data.segments must be a data source, a function that returns Segment",
    "data.segments._target_=mdm.formats.download.download": "data.segments must be a data source, a function that returns Segm",
    "data.segments=null": "data.segments must be a data source, a function that returns Segments, by its _target_, but is None",
    "data.segments.audio_dim=1000000000": "data.segments.audio_dim must be a whole number between 1 and 10,000, but is 1000000",
    "data=synthetic_pom data.segments.targets=abc": "data.segments.targets must be a list (each a text), but is 'abc'",
    "data=synthetic_pom data.segments.label_range=5": "data.segments.label_range must be a list (each a finite number), but is",
    "data=synthetic_pom +data.segments.rho=x": "data.segments.rho must be a finite number, but is 'x'",
    "data=synthetic_pom ~data.segments.step": "data.segments must have all that mdm.data.standin.standin needs, but lacks step",
    "data=gaussian data.segments.modalities=0": "data.segments.modalities must be a whole number between 1 and 1,000, but is 0",
    "data=synthetic_digits data.segments.train=0": "data.segments.train must be a whole number between 1 and 1,000,000, but is",
    "data=mosi data.segments.path=3": "data.segments.path must be a text, but is 3",
    "data=mosi data.segments.path=null": "data.segments.path must be a text, but is None",
    "data=mosi ~data.segments.path": "data.segments must have all that mdm.data.store.open_store needs, but lacks path",
    "data=ict_mmmo data.folds.k=0": "data.folds.k must be a whole number of at least 1, but is 0",
    "data=ict_mmmo data.folds.k=x": "data.folds.k must be a whole number of at least 1, but is 'x'",
    "data=ict_mmmo +data.folds.parts=3": "has no key parts, but data.folds.parts came",
    "data.folds=5": "data.folds must be a division of segments, such as mdm.data.folds.KFold, by its _target_, but is 5",
    "data.folds={_target_: mdm.data.base.check}": "data.folds must be a division of segments, such as mdm.data.folds.KFold",
    "data.batch_size=0": "data.batch_size must be a whole number of at least 2, but is 0",
    "data.batch_size=abc": "data.batch_size must be a whole number of at least 2, but is 'abc'",
    "data.batch_size=1": "data.batch_size must be a whole number of at least 2, but is 1",
    "data.batch_size=2.0": "data.batch_size must be a whole number of at least 2, but is 2.0",
    "data.batch_size=true": "data.batch_size must be a whole number of at least 2, but is True",
    "data.batch_size=null": "data.batch_size must be a whole number of at least 2, but is None",
    "data.scale=3": "data.scale must be standard, maxabs or none, but is 3",
    "data.scale=minmax": "data.scale must be standard, maxabs or none, but is 'minmax'",
    "data.scale=null": "data.scale must be standard, maxabs or none, but is None",
    "data.text=3": "data.text must be a text or null, but is 3",
    "data.modalities=language": "data.modalities must be a list (each a text) or null, but is 'language'",
    "data.modalities=[1]": "data.modalities must be a list (each a text) or null, but is [1]",
    "data.max_steps=0": "data.max_steps must be a whole number of at least 1 or null, but is 0",
    "data.max_steps=abc": "data.max_steps must be a whole number of at least 1 or null, but is 'abc'",
    "data.unlabeled=-1": "data.unlabeled must be a whole number of at least 0, but is -1",
    "data.unlabeled=x": "data.unlabeled must be a whole number of at least 0, but is 'x'",
    "data.name=..": "data.name names a folder of the record",
    "data.name=a/b": "data.name names a folder of the record",
    "data.name=/etc": "data.name names a folder of the record",
    "data.name=''": "data.name names a folder of the record",
    'data.name="a\\0b"': "data.name names a folder of the record",
    "data.name=null": "data.name must be a text, but is None",
    "data.name=3": "data.name must be a text, but is 3",
    "seed=-1": "seed must be a whole number of at least 0, but is -1",
    "seed=abc": "seed must be a whole number of at least 0, but is 'abc'",
    "seed=1.5": "seed must be a whole number of at least 0, but is 1.5",
    "seed=true": "seed must be a whole number of at least 0, but is True",
    "seed=null": "seed must be a whole number of at least 0, but is None",
    "seed=[0]": "seed must be a whole number of at least 0, but is [0]",
    "seed=1e3": "seed must be a whole number of at least 0, but is 1000.0",
    "seed=99999999999999999999999": "seed must be a whole number of at least 0, but is 99999999999999999999999",
    "name=../../x": "name names a folder of the record",
    "name=..": "name names a folder of the record",
    "name=/tmp/x": "name names a folder of the record",
    "name=''": "name names a folder of the record",
    "name=a//b": "name names a folder of the record",
    "name=a/../b": "name names a folder of the record",
    "name=./a": "name names a folder of the record",
    "name=.hidden": "name names a folder of the record",
    "name=trailing.": "name names a folder of the record",
    "name='trailing '": "name names a folder of the record",
    'name="a\\0b"': "name names a folder of the record",
    'name="a\\nb"': "name names a folder of the record",
    "name=null": "name must be a text, but is None",
    "name=3": "name must be a text, but is 3",
    "model.name=../x": "model.name names a folder of the record",
    "penalty=kl penalty.name=../x": "penalty.name names a folder of the record",
    "penalty=kl penalty.name=''": "penalty.name names a folder of the record",
    "penalty=kl penalty.weight=nan": "penalty.weight must be a finite number above 0, but is nan",
    "penalty=kl penalty.weight=inf": "penalty.weight must be a finite number above 0, but is inf",
    "penalty=kl penalty.weight=-1": "penalty.weight must be a finite number above 0, but is -1",
    "penalty=kl penalty.weight=true": "penalty.weight must be a finite number above 0, but is True",
    "penalty=kl penalty.weight=heavy": "penalty.weight must be a finite number above 0, but is 'heavy'",
    "penalty=kl penalty.weight=null": "penalty.weight must be a finite number above 0, but is None",
    "penalty=kl penalty.critic_steps=0": "penalty.critic_steps must be a whole number of at least 1, but is 0",
    "penalty=kl penalty.critic_steps=2.5": "penalty.critic_steps must be a whole number of at least 1, but is 2.5",
    "penalty=kl penalty.critic_steps=null": "penalty.critic_steps must be a whole number of at least 1, but is None",
    "penalty=kl penalty.critic_batches=old": "penalty.critic_batches must be fresh, shared or replay, but is 'old'",
    "penalty=kl penalty.interleave=hour": "penalty.interleave must be batch or epoch, but is 'hour'",
    "penalty=kl penalty.interleave=epoch": "interleave=epoch needs critic_batches=fresh, but kl has replay",
    "penalty=kl penalty.measure_only=perhaps": "penalty.measure_only must be true or false, but is 'perhaps'",
    "penalty=kl penalty.measure_only=0": "penalty.measure_only must be true or false, but is 0",
    "penalty=kl penalty.objective.hidden=0": "penalty.objective.hidden must be a whole number of at least 1, but is 0",
    "penalty=kl penalty.objective.dropout=2": "penalty.objective.dropout must be a finite number between 0 and 1, but is 2",
    "penalty=kl penalty.objective.shifts=0": "penalty.objective.shifts must be a whole number of at least 1, but is 0",
    "penalty=kl penalty.objective.bound=x": "penalty.objective.bound must be a finite number, but is 'x'",
    "penalty=kl penalty.objective.normalize=maybe": "penalty.objective.normalize must be true or false, but is 'maybe'",
    "penalty=kl penalty.objective._target_=mdm.penalties.base.Penalty": "penalty.objective must be a subclass of mdm.penalties",
    "penalty=kl penalty.objective._target_=mdm.penalties.critics.Critic": "penalty.objective must be a subclass of mdm.penalti",
    "penalty=kl penalty.optimizer.lr=abc": "penalty.optimizer.lr must be a finite number, but is 'abc'",
    "penalty=kl penalty.optimizer.lr=-1": "penalty.optimizer must be what torch.optim.Adam can work with",
    "penalty=kl penalty.optimizer=adam": "penalty.optimizer must be an optimiser of torch.optim whose step needs no closure, b",
    "penalty=hsic penalty.objective.pairs=audio": "penalty.objective.pairs must be a list (each a list (each a text)) or null,",
    "penalty=hsic penalty.objective.pairs=[audio,video]": "penalty.objective.pairs must be a list (each a list (each a text))",
    "penalty=hsic penalty.objective.bandwidth=nan": "penalty.objective.bandwidth must be a finite number or a text, but is nan",
    "penalty=infomax penalty.objective.memory=-1": "penalty.objective.memory must be a whole number of at least 0, but is -1",
    "penalty=none penalty.weight=x": "penalty.weight must be a finite number, but is 'x'",
    "penalty=none +penalty.critic_steps=3": "penalty has no key critic_steps",
    "penalty=sum": "penalty=sum adds up penalties under names of their own, none of them own, which is the model's, but has no",
    "penalty=sum +penalty@penalty.sum.kl=kl penalty.sum.kl.weight=much": "penalty.sum.kl.weight must be a finite number above",
    "penalty=sum +penalty@penalty.sum.kl=kl +penalty.sum.kl.wieght=1": "penalty.sum.kl has no key wieght",
    "penalty=sum +penalty@penalty.sum.kl=kl +penalty.weight=1": "penalty has no key weight",
    "penalty=kl +penalty@penalty.sum.club=club": "Only penalty=sum has members, but penalty=kl came with club",
    "trainer.max_epochs=0": "trainer.max_epochs must be a whole number of at least 1, but is 0",
    "trainer.max_epochs=two": "trainer.max_epochs must be a whole number of at least 1, but is 'two'",
    "trainer.max_epochs=1.5": "trainer.max_epochs must be a whole number of at least 1, but is 1.5",
    "trainer.max_epochs=null": "trainer.max_epochs must be a whole number of at least 1, but is None",
    "trainer.patience=0": "trainer.patience must be a whole number of at least 1 or null, but is 0",
    "trainer.patience=x": "trainer.patience must be a whole number of at least 1 or null, but is 'x'",
    "trainer.precision=16": "trainer.precision must be 32-true, 16-mixed or bf16-mixed, but is 16",
    "trainer.precision=33-true": "trainer.precision must be 32-true, 16-mixed or bf16-mixed, but is '33-true'",
    "trainer.precision=null": "trainer.precision must be 32-true, 16-mixed or bf16-mixed, but is None",
    "trainer.gradient_clip=0": "trainer.gradient_clip must be a finite number above 0 or null, but is 0",
    "trainer.gradient_clip=-1": "trainer.gradient_clip must be a finite number above 0 or null, but is -1",
    "trainer.gradient_clip=nan": "trainer.gradient_clip must be a finite number above 0 or null, but is nan",
    "trainer.gradient_clip=x": "trainer.gradient_clip must be a finite number above 0 or null, but is 'x'",
    "trainer.select.mode=best": "trainer.select.mode must be min or max, but is 'best'",
    "trainer.select.metric=3": "trainer.select.metric must be a text, but is 3",
    "trainer.select=mae": "trainer.select must be a mapping, but is 'mae'",
    "machine.progress=often": "machine.progress must be true or false, but is 'often'",
    "machine.progress=1": "machine.progress must be true or false, but is 1",
    "machine.workers=-1": "machine.workers must be a whole number of at least 0, but is -1",
    "machine.workers=x": "machine.workers must be a whole number of at least 0, but is 'x'",
    "machine.threads=0": "machine.threads must be a whole number of at least 1 or null, but is 0",
    "machine.threads=x": "machine.threads must be a whole number of at least 1 or null, but is 'x'",
    "machine.devices=2": "A run trains on one device, but machine.devices=2 came: several would each see the same batches. Use",
    "machine.devices=x": "machine.devices must be a whole number or a list (each a whole number of at least 0), but is 'x'",
    "machine.devices=[0,1]": "A run trains on one device, but machine.devices=[0, 1] came: several would each see the same bat",
    "machine.devices=[x]": "machine.devices must be a whole number or a list (each a whole number of at least 0), but is ['x']",
    "machine.devices=[-1]": "machine.devices must be a whole number or a list (each a whole number of at least 0), but is [-1]",
    "machine.devices=null": "machine.devices must be a whole number or a list (each a whole number of at least 0), but is None",
    "machine.accelerator=3": "machine.accelerator must be auto, cpu, gpu, cuda or mps, but is 3",
    "machine.strategy=null": "machine.strategy must be a text, but is None",
    "logger=wandb +logger.loggers.wandb.save_dir=/tmp/x": "has no key save_dir, but logger.loggers.wandb.save_dir came",
    "logger=wandb logger.loggers.wandb.project=3": "logger.loggers.wandb.project must be a text, but is 3",
    "logger=wandb logger.loggers.wandb._target_=pytorch_lightning.loggers.CSVLogger": "logger.loggers.wandb must be a subclass",
    "logger=wandb logger.loggers.wandb._target_=mdm.loggers.Logger": "logger.loggers.wandb must be a subclass of mdm.loggers.L",
    "+logger.loggers._target_=os.system": "logger.loggers._target_ must be a subclass of mdm.loggers.Logger, by its _target_,",
    "logger.loggers=null": "logger.loggers must be a mapping, but is None",
    "paths.outputs=null": "paths.outputs must be a text, but is None",
    "paths.outputs=''": "paths.outputs must be a folder, but is ''",
    "paths.outputs=3": "paths.outputs must be a text, but is 3",
    "paths.data=null": "paths.data must be a text, but is None",
    "data.batch_size=${nothing}": "Every value of a config must be known, but Interpolation key 'nothing' not found",
    "data.batch_size=${oc.env:NOTHING_AT_ALL}": "Every value of a config must be known, but KeyError raised while resolving in",
    "data.batch_size=???": "Every value of a config must be known, but Missing mandatory value: batch_size",
    "model.optimizer.lr=${model.optimizer.lr}": "Every value of a config must be known, but Recursive interpolation detected",
    "machine.accelerator=gppu": "machine.accelerator must be auto, cpu, gpu, cuda or mps, but is 'gppu'",
    "model.optimizer._target_=torch.optim.SparseAdam ~model.optimizer.weight_decay": "model.optimizer must be what torch.optim",
    "~model.optimizer": "model.optimizer must be set, but is not there",
    "~data.text": "data.text must be set, but is not there",
    "~seed": "seed must be set, but is not there",
    "data.segments._target_=mdm.data.synthetic.latents": "data.segments must be a data source, a function that returns Segment",
    "data.segments._target_=mdm.data.base.Segments": "data.segments must be a data source, a function that returns Segments",
    "data.segments._target_=builtins.eval": "data.segments must be a data source, a function that returns Segments",
    "+model.groups.lstm={lr: nan}": "model.groups must be a mapping (to each name a mapping (to each name any value)), but is",
    "model.loss._target_=torch.nn.TripletMarginLoss": "model.loss must be what torch.nn.TripletMarginLoss can work with",
    "penalty=kl penalty.optimizer._target_=torch.optim.LBFGS": "penalty.optimizer must be an optimiser of torch.optim whose st",
}
"""Overrides → what is said, or the part that matters."""


@cache
def composed(*groups):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", list(groups))


def overridden(words):
    """A config as the command line composes it; groups are composed once, keys are set as Hydra sets them."""
    given = re.split(r" (?=[+~]?\w[\w.@]*=|~)", words)
    groups = [o for o in given if re.match(r"(data|model|penalty|logger)=|\+penalty@", o)]
    cfg = composed(*groups).copy()
    for override in OverridesParser.create().parse_overrides([o for o in given if o not in groups]):
        parent, _, last = override.key_or_group.rpartition(".")
        if override.is_delete():
            node = OmegaConf.select(cfg, parent) if parent else cfg
            with open_dict(node):
                del node[last]
        else:
            OmegaConf.update(cfg, override.key_or_group, override.value(), merge=True, force_add=True)
    return cfg


@pytest.mark.parametrize("words", BAD)
def test_what_is_wrong_is_one_line_with_the_key(words):
    with pytest.raises(ValueError, match=re.escape(BAD[words])) as raised:
        check(overridden(words))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 900


@pytest.mark.parametrize("key", ["name", "data.name", "model.name", "penalty.name"])
@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/tmp/x", "a\0b", "a\nb", "x" * 101, "é" * 60, "end.", " a", "a ", ".a", "~a", "a\\b", "a:b"]
)
def test_a_name_stays_in_its_folder(key, name):
    cfg = composed("penalty=kl").copy()
    OmegaConf.update(cfg, key, name)
    with pytest.raises(ValueError, match=f"{key} names a folder of the record") as raised:
        folder_of(cfg, ())
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=key):
        check(cfg)


def test_a_seed_is_a_number_before_it_is_a_folder():
    cfg = composed().copy()
    cfg.seed = "../../x"
    with pytest.raises(ValueError, match=r"seed must be a whole number of at least 0, but is '\.\./\.\./x'"):
        folder_of(cfg, ())


def test_an_override_stays_in_its_folder(tmp_path):
    cfg = composed().copy()
    cfg.paths.outputs = str(tmp_path)
    for value in ("../../../../x", "/etc", "..", "a/../../b", "\0", "x" * 5000, "é" * 500):
        folder = folder_of(cfg, [f"tuned={value}", "trainer.patience=3"])
        assert folder.relative_to(tmp_path).parts[:4] == ("single", "synthetic", "eflstm", "none")
        assert len(folder.relative_to(tmp_path).parts) == 6
        assert ".." not in folder.parts
        assert all(len(part.encode()) < 255 for part in folder.parts)
        folder.mkdir(parents=True, exist_ok=True)  # every system call takes it


VALUES = [
    *(1234567, 1234568, 0.1, 0.10000001, 0.1 + 1e-16, 1e-5, 1.00001e-5, 1e22, 10**22 + 1, -1, 0, 2**60, 2**60 + 1),
    *(float("inf"), float("nan"), True, False, None, "True", "False", "None", "", "true", "null"),
    *("1", "1.0", "1e-05", "nan", "inf", "-1", "0.1", "a,b", "a b", "a/b", "a_b", "a--b", "a-b", "a-/b", "a/-b", "a//b", "a/b/"),
    *("-a", "a-", "a%2Fb", "a=b", "a:b", "[a]", "{a:b}", "'a'", "ä", "a\u0308", "…", "ab…cd", "x\ny", "a\\b", "$x", "*", "A", "a"),
    *(["a", "b"], ["a,b"], [["a"], "b"], [], [1], ["1"], [None]),
    *({}, {"a": 1}, {"a": "1"}, {"a:1": 1}, {"a": {"b": 1}}, {"a.b": 1}),
]


def test_a_folder_tells_every_value_apart():
    found = {}
    for value in VALUES:
        name = spelled(value)
        assert name not in found, f"{value!r} and {found.get(name)!r} are both {name}"
        assert re.fullmatch(r"[\w.+@%'\[\]{},:~-]*", name, re.ASCII), name
        found[name] = value


def test_usual_values_are_as_they_are_written():
    cfg = overridden("model.optimizer.lr=0.001 trainer.patience=null")
    overrides = ["model.optimizer.lr=1e-3", "trainer.patience=null", "tuned=mmsa/mosi/mfn", "+trainer.precision=32-true", "seed=3"]
    assert folder_of(cfg, overrides).parts[-2] == (
        "model.optimizer.lr=0.001,trainer.patience=None,trainer.precision=32-true,tuned=mmsa--mosi--mfn"
    )
    assert [spelled(v) for v in (1, 1.0, 5e-5, 0.5, True, "gradient_penalty", "bf16-mixed", ["audio", "video"])] == [
        *("1", "1", "5e-05", "0.5", "True", "gradient_penalty", "bf16-mixed", "[audio,video]")
    ]


def test_long_names_are_apart_too():
    """Cut and hashed: what they end in still counts."""
    cfg = composed()
    names = {folder_of(cfg, [f"tuned={'x' * 300}{end}"]).parts[-2] for end in ("", "a", "b")}
    assert len(names) == 3
    assert max(len(name.encode()) for name in names) < 255


def test_penalties_without_a_name_are_a_message():
    cfg = composed("penalty=kl").copy()
    with open_dict(cfg):
        del cfg.penalty["name"]
    with pytest.raises(ValueError, match=r"penalty\.name must be set, but is not there"):
        check(cfg)
    assert list(penalties(composed("penalty=kl"))) == ["kl"]


@pytest.mark.parametrize(
    "value",
    [
        *(
            "${oc.env:HOME}",
            "${oc.env:HOME,x}",
            "${oc.decode:'[1]'}",
            "${hydra:runtime.cwd}",
            "${now:%Y}",
            "${oc.select:${oc.env:HOME}}",
        ),
        *(
            "${oc.create:{a: 1}}",
            "${oc.dict.keys:data}",
            "${${name}}",
            "${oc.${name}:x}",
            "${.name}",
            "${a",
            "\\${name}",
            "${name}${name}",
        ),
        *("${data}", "${nowhere}", "${me}", "???", "${name,x}", "${oc.select:name,${oc.env:HOME}}"),
    ],
)
def test_a_record_looks_nothing_up_but_its_own_values(value):
    config = {"name": "x", "data": {"a": 1}, "me": value}
    with pytest.raises(ValueError, match=r"me (may refer to one other key|must refer to a plain value)") as raised:
        replaced(config, config, "", 0)
    assert "\n" not in str(raised.value)


def test_what_a_record_may_refer_to():
    config = {
        "paths": {"data": "d"},
        "a": "${paths.data}/mosi",
        "b": "${oc.select:no.thing,mae}",
        "c": "${a}",
        "lr": 0.1,
        "e": ["${lr}"],
    }
    assert replaced(config, config, "", 0) == {**config, "a": "d/mosi", "b": "mae", "c": "d/mosi", "e": [0.1]}
