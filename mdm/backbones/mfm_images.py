"""Stage two, backbone: the Multimodal Factorization Model for pairs of images (Tsai et al., 2019, section 3.2), and its baseline.

The model of `mdm.backbones.mfm` with other networks, for a segment that is one image of each modality:

    U_m = FC(CNN(X_m)),  Z_y = FC([U_1; …; U_M])           late fusion
    Z_m = FC(FC(CNN'(X_m)))                                a CNN of its own
    F_y = G_y(Z_y),  F_m = G_m(Z_m),  Ŷ = D(F_y)           as there (Eq. 1)
    X̂_m = a transposed CNN of [F_y; F_m]
    loss = c(Y, Ŷ) + Σ_m λ_m ‖X_m − X̂_m‖² + λ·MMD²(Z, N(0, I))                (Eq. 4)

Of the networks the paper says no more than that it adopts "Convolutional Neural Networks (CNNs) and Fully-Connected Neural Networks
(FCNNs) with late fusion" for Z_y, and CNNs and FCNNs for the rest. Depth and widths are ours, small enough for a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence as Listed
from itertools import pairwise
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdm.backbones.base import Backbone
from mdm.backbones.layers import Number, at_last_step, expand_option, real_steps_first, regressor
from mdm.backbones.mfm import KernelScale, Mmd, Prior, codes_to_prior, factor
from mdm.hints import Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Fusion, Sequence

Variant = Literal["mfm", "mm"]

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""
Network = TypeVar("Network", bound=nn.Module)
GROUPS = 4
"""Groups into which the channels of a convolution are divided; each group is normalised."""


class MFMImages(Backbone):
    """MFM for images with values in [0, 1], flattened into the one step of their modality.

    images: modality → [channels, height, width]; the data may have some of them only
    variant: ``mfm``; ``mm``, the discriminative baseline: Z_y, F_y and the head, without decoders and prior. With one modality
        it is the paper's UM
    channels: of the convolutions; each halves height and width. Decoders have them in reverse
    hidden: width of U_m, and of the layer before Z_m
    z_y, f_y, z_m, f_m: widths of codes and factors, the latter two a number for all, or modality → number
    y_dropout, m_dropout, head_dropout: after the first layer of G_y, of G_m and of the head
    reconstruction_weight: λ_m, a number for all, or modality → number; the cost is a mean over pixels
    prior_weight, kernel_scale, mmd, prior: of the prior, see `mdm.backbones.mfm.MFM`

    A segment without an image has U_m = 0 and a constant Z_m; it is not reconstructed and takes no part in the prior's distance.
    Predictions are scores of the classes (logits), not values of the labels: the largest counts.
    Z of `Fusion` is F_y, the unimodal representations are U_m.

    Raises ValueError on data with other features than these images, an unknown choice, images too small for so many convolutions,
    a width below 1 and a negative weight; when it encodes, on segments of several steps.

    >>> from mdm.data.digits import digits
    >>> from mdm.data.pairing import SHAPES
    >>> from mdm.data.splits import Splits
    >>> splits = Splits(digits(train=8, valid=4, test=4), batch_size=4, text=None)
    >>> fusion = MFMImages(splits.spec, SHAPES, channels=(2, 4))(next(iter(splits.valid())))
    >>> fusion.prediction.shape, sorted(fusion.parts)
    (torch.Size([4, 10]), ['f_mnist', 'f_svhn', 'f_y', 'z_mnist', 'z_svhn', 'z_y'])
    """

    def __init__(
        self,
        spec: DataSpec,
        images: Mapping[str, Listed[Size]],
        variant: Variant = "mfm",
        channels: Listed[Size] = (16, 32, 64),
        hidden: Size = 128,
        z_y: Size = 16,
        f_y: Size = 32,
        z_m: Size | Mapping[str, Size] = 8,
        f_m: Size | Mapping[str, Size] = 32,
        y_dropout: Share = 0.0,
        m_dropout: Share = 0.0,
        head_dropout: Share = 0.2,
        reconstruction_weight: float | Mapping[str, float] = 10.0,
        prior_weight: float = 3.0,
        kernel_scale: KernelScale = "corrected",
        mmd: Mmd = "joint",
        prior: Prior = "closed",
    ):
        super().__init__()
        require_option("variant", variant, Variant)
        require_option("kernel_scale", kernel_scale, KernelScale)
        require_option("mmd", mmd, Mmd)
        require_option("prior", prior, Prior)
        self.shapes = shapes_of(spec, images, len(channels))
        z_widths, f_widths = (
            expand_option(option, select_modalities(n, spec), spec.modalities) for option, n in (("z_m", z_m), ("f_m", f_m))
        )
        self.weights = expand_option("reconstruction_weight", select_modalities(reconstruction_weight, spec), spec.modalities)
        widths = {
            "hidden": hidden,
            "z_y": z_y,
            "f_y": f_y,
            "channels": len(channels),
            **{f"channels.{i}": n for i, n in enumerate(channels)},
        }
        widths |= {f"z_m.{m}": n for m, n in z_widths.items()} | {f"f_m.{m}": n for m, n in f_widths.items()}
        weights = {"prior_weight": prior_weight} | {f"reconstruction_weight.{m}": w for m, w in self.weights.items()}
        wrong = {name: n for name, n in widths.items() if n < 1} | {name: w for name, w in weights.items() if w < 0}
        if wrong:
            raise ValueError(f"MFM's widths must be at least 1 and its weights at least 0, but {wrong} came; set model.backbone.*.")
        self.prior_weight, self.kernel_scale, self.mmd, self.prior = prior_weight, kernel_scale, mmd, prior

        # What both variants have comes first, so that runs of one seed begin with the same weights.
        self.states = nn.ModuleDict({m: encoder(shape, channels, hidden, normalised=True) for m, shape in self.shapes.items()})
        self.code = initialise(nn.Linear(hidden * len(self.shapes), z_y))
        self.factors = nn.ModuleDict({"y": initialise(factor(z_y, f_y, y_dropout))})
        before = initialise(nn.Linear(f_y, f_y))
        self.head = nn.Sequential(before, nn.ReLU(), nn.Dropout(head_dropout), regressor(f_y, spec))
        own = self.shapes if variant == "mfm" else {}
        self.encoders = nn.ModuleDict({m: encoder(shape, channels, hidden, normalised=False) for m, shape in own.items()})
        self.codes = nn.ModuleDict({m: initialise(nn.Linear(hidden, z_widths[m])) for m in own})
        self.factors.update({m: initialise(factor(z_widths[m], f_widths[m], m_dropout)) for m in own})
        self.decoders = nn.ModuleDict({m: decoder(f_y + f_widths[m], shape, channels, hidden) for m, shape in own.items()})
        self.z_dim = f_y
        self.unimodal_dims = dict.fromkeys(self.shapes, hidden)
        self.part_dims = {"z_y": z_y, "f_y": f_y}
        for m in own:
            self.part_dims |= {f"z_{m}": z_widths[m], f"f_{m}": f_widths[m]}

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m, shape in self.shapes.items():
            image, there = picture(batch.sequences[m], m).unflatten(1, shape), batch.sequences[m].mask.any(1, keepdim=True)
            encoded[m] = {"state": self.states[m](image) * there}
            if m in self.encoders:
                encoded[m]["z"] = self.codes[m](self.encoders[m](image) * there)
        return encoded

    def fuse(self, encoded: Encoded) -> Fusion:
        unimodal = {m: encoded[m]["state"] for m in self.shapes}
        codes = {"y": self.code(torch.cat(list(unimodal.values()), dim=1))} | {m: encoded[m]["z"] for m in self.encoders}
        factors = self.generate(codes)
        parts = {f"z_{name}": code for name, code in codes.items()} | factors
        return Fusion(self.head(factors["f_y"]), factors["f_y"], unimodal, parts)

    def generate(self, codes: Mapping[str, Float[Tensor, "batch _"]]) -> dict[str, Float[Tensor, "batch _"]]:
        """G: ``y`` or a modality → its code, to ``f_y`` or ``f_<modality>``, its factor; codes may be drawn from the prior."""
        return {f"f_{name}": self.factors[name](code) for name, code in codes.items()}

    def decode(self, modality: str, parts: Mapping[str, Float[Tensor, "batch _"]]) -> Float[Tensor, "batch channels height width"]:
        """F_m: the factors ``f_y`` and ``f_<modality>``, those of one segment or of several, or made of drawn codes → images."""
        return self.decoders[modality](torch.cat([parts["f_y"], parts[f"f_{modality}"]], dim=1))

    def own_terms(self, batch: Batch, encoded: Encoded, fusion: Fusion) -> dict[str, Float[Tensor, ""]]:
        """λ_m times the mean squared error of a pixel for each modality, and λ·MMD²; none without decoders."""
        if not self.decoders:
            return {}
        terms: dict[str, Tensor] = {}
        present = {m: batch.sequences[m].mask.any(1) for m in self.shapes}
        for m, rows in present.items():
            made = self.decode(m, {name: part[rows] for name, part in fusion.parts.items()}).flatten(1).float()
            wanted = picture(batch.sequences[m], m)[rows]
            terms[f"reconstruction_{m}"] = self.weights[m] * F.mse_loss(made, wanted, reduction="sum") / max(wanted.numel(), 1)
        codes = {name: fusion.parts[f"z_{name}"] for name in self.factors}
        distance = codes_to_prior(codes, present, self.mmd, self.kernel_scale, self.prior)
        return terms if distance is None else terms | {"prior": self.prior_weight * distance}


def select_modalities(value: Number | Mapping[str, Number], spec: DataSpec) -> Number | Mapping[str, Number]:
    """Of numbers by modality those of the data's: UM is told of images that it does not read."""
    return {m: n for m, n in value.items() if m in spec.features} if isinstance(value, Mapping) else value


def shapes_of(spec: DataSpec, images: Mapping[str, Listed[int]], halvings: int) -> dict[str, Shape]:
    """The images of the data's modalities.

    Raises ValueError if the data have others, or an image is too small to be halved so often.
    """
    shapes: dict[str, Shape] = {}
    for m, feature in spec.features.items():
        shape = tuple(images.get(m, ()))
        if feature.tokens or len(shape) != 3 or math.prod(shape) != feature.dim:
            said = ", ".join(f"{name} {list(sides)}" for name, sides in images.items())
            raise ValueError(
                f"MFM for images needs flattened images, [channels, height, width] of which it is told ({said}), but {m} has "
                f"{feature.dim} {'words' if feature.tokens else 'numbers'} a step; use data=svhn_mnist or synthetic_digits, or set "
                "model.backbone.images."
            )
        if min(shape[1:]) >> halvings < 1:
            raise ValueError(
                f"Each of {halvings} convolutions halves an image, but {m} is {list(shape)}; shorten model.backbone.channels."
            )
        shapes[m] = (shape[0], shape[1], shape[2])
    return shapes


def picture(sequence: Sequence, modality: str) -> Float[Tensor, "batch pixels"]:
    """The flattened image of each row; zero where there is none.

    Raises ValueError if a row has several steps.
    """
    most = int(sequence.lengths.max())
    if most > 1:
        raise ValueError(
            f"A segment has one image, so one step of {modality}, but a row with {most} came; use another model for sequences."
        )
    return at_last_step(real_steps_first(sequence))


def sides(shape: Shape, halvings: int) -> list[tuple[int, int]]:
    """Height and width before each halving, and after the last."""
    return [(shape[1] >> i, shape[2] >> i) for i in range(halvings + 1)]


def encoder(shape: Shape, channels: Listed[int], hidden: int, normalised: bool) -> nn.Sequential:
    """Convolutions that halve the image, then a layer with a ReLU: [batch, *shape] → [batch, hidden].

    normalised: each convolution over the whole image, in groups of channels. A digit is then found whether it is lighter or darker
        than what is around it, and faintly too (without, that of an SVHN-like image was not found at all); but brightness is lost
    """
    layers: list[nn.Module] = []
    for before, after in pairwise((shape[0], *channels)):
        norm = [nn.GroupNorm(math.gcd(GROUPS, after), after)] if normalised else []
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), *norm, nn.ReLU()]
    height, width = sides(shape, len(channels))[-1]
    return initialise(nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * height * width, hidden), nn.ReLU()))


def decoder(width: int, shape: Shape, channels: Listed[int], hidden: int) -> nn.Sequential:
    """Layers, then transposed convolutions that double the image up to its shape: [batch, width] → [batch, *shape] in (0, 1).

    Leaky, because most of MNIST is black: the first steps, all in that direction, could leave plain ReLUs dead and the image
    constant.
    """
    *larger, smallest = sides(shape, len(channels))
    start = (channels[-1], *smallest)
    layers: list[nn.Module] = [nn.Linear(width, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, math.prod(start)), nn.LeakyReLU(0.2)]
    layers.append(nn.Unflatten(1, start))
    for (before, after), (high, wide) in zip(pairwise((*reversed(channels), shape[0])), reversed(larger), strict=True):
        odd = (high % 2, wide % 2)  # what halving rounded down
        layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, output_padding=odd), nn.LeakyReLU(0.2)]
    return initialise(nn.Sequential(*layers[:-1], nn.Sigmoid()))


def initialise(network: Network) -> Network:
    """The network, its convolutions and layers drawn for ReLUs (He et al., 2015).

    Six and more of them lie between an image and its label, and by torch's default next to no signal would arrive there. Codes
    begin with a variance of about 1, where the prior's kernel has a slope. Transposed convolutions keep the default: the last must
    not begin in the flat ends of its sigmoid.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return network
