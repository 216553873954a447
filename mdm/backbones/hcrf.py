"""Stage two, backbone: hidden conditional random fields, and their latent-dynamic, multi-view and hierarchical forms.

HCRF (Quattoni et al., 2007): each class y of a target sums over all paths of hidden states h_1 … h_T through a segment,

    log Z_y = log Σ_h exp(Σ_t (⟨U_{h_t}, x_t⟩ + V_{y,h_t}) + Σ_{t≥2} E_{y,h_{t−1},h_t}),    p(y|x) = Z_y / Σ_{y'} Z_{y'}

LDCRF (Morency et al., 2007): each class has states of its own, U_{y,h} in the place of U_h, and no V. Z_y sums over the paths of
these; those that change class in between, which its training on labels of frames counts, are left out.

Multi-view (Song, Morency, Davis, 2012): each modality c has states h^c of its own, with U^c, V^c and E^c; ``linked`` adds a score
L^{cd}_{y,h^c_t,h^d_t} for every two at one step, ``coupled`` E^{cd}_{y,h^c_{t−1},h^d_t} from each to each other. Sums are exact,
over the product of all states. "CMV" in the tables of Tsai et al. (2019) is not explained; coupled is our reading.

HSS, hierarchical sequence summarization (Song, Morency, Davis, CVPR 2013): a further field reads the means of groups of frames that
the one below holds alike, see `mdm.backbones.neighbours`; p(y|x) is the product of all layers', each trained by its own likelihood.

These are classifiers: each target has a class for each of some numbers c_y in the range of its labels, its label is of the nearest,
and the prediction is Σ_y p(y|x) c_y. Z is the centred log Z_y of all targets (of layers summed), which a softmax turns into that.
The unimodal representations are the mean scores ⟨U, x_t⟩ of a modality's own steps.

Equations are those of hCRF-light's code. It has no bias and no score of first or last states; long segments are surer, as scores
are summed. It trains by L-BFGS on all segments, with a Gaussian prior of σ = 10, for which weight decay stands here; its neural
gates are left out.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from itertools import combinations, permutations, product
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdm.backbones.base import Backbone
from mdm.backbones.layers import Steps, masked_mean, real_steps_first
from mdm.backbones.neighbours import regroup
from mdm.backbones.views import require_steps_correspond
from mdm.hints import Depth, Range, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Feature, Fusion, Sequence

Views = Literal["early", "multi"]
Topology = Literal["none", "linked", "coupled", "linked_coupled"]
States = Literal["shared", "disjoint"]


class HCRF(Backbone):
    """A hidden conditional random field for each target.

    views: ``early``, one chain of states that reads all modalities; ``multi``, a chain for each
    topology: of several chains, ``none`` (their log Z_y are summed), ``linked``, ``coupled``, ``linked_coupled``
    states: ``shared`` by the classes (HCRF) or ``disjoint``, each class its own (LDCRF)
    hidden: states of each chain (of each class, if disjoint). With one shared state the data cancel from p(y|x)
    classes: of each target, evenly over the range of labels; null: one for each whole number in it
    layers: of sequence summarization; 1: none
    threshold: c of `mdm.backbones.neighbours.join_neighbours` (official .5)
    embedding_dim: width of the trainable word embedding, where the text is words

    Parameters of one layer of K targets with Y classes, S = hidden: KS(Y if disjoint else 1)·Σ d_m of U; for each chain KYS of V
    (if shared) and KYS² of E; KYS² for each link and each coupling.

    Raises ValueError on options out of range or unknown, on unaligned data unless chains are apart, and on more than one layer of
    chains that are.

    >>> from mdm.types import Feature
    >>> spec = DataSpec({"audio": Feature(5), "video": Feature(4)}, ("y",), (-3.0, 3.0), (0.0,), aligned=True)
    >>> model = HCRF(spec, views="multi", topology="coupled", hidden=3)
    >>> model.z_dim, model.unimodal_dims, model.head.values.tolist()
    (7, {'audio': 3, 'video': 3}, [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    """

    def __init__(
        self,
        spec: DataSpec,
        views: Views = "early",
        topology: Topology = "none",
        states: States = "shared",
        hidden: Size = 4,
        classes: Annotated[int, Range(2)] | None = None,
        layers: Depth = 1,
        threshold: Annotated[float, Range(0)] = 0.5,
        embedding_dim: Size = 32,
    ):
        super().__init__()
        require_option("views", views, Views)
        require_option("topology", topology, Topology)
        require_option("states", states, States)
        if views == "early" and topology != "none":
            raise ValueError(f"topology: expected none with views=early, which has one chain, got {topology}; set views=multi.")
        apart = views == "multi" and topology == "none"
        if apart and layers > 1:
            raise ValueError(f"layers: expected 1 with views=multi and topology=none, whose chains differ in groups, got {layers}.")
        if not apart:
            require_steps_correspond(spec, "HCRF")
        low, high = spec.label_range
        number = round(high - low) + 1 if classes is None else classes
        self.shape = layers, len(spec.targets), number if states == "disjoint" else 1, hidden
        width = layers * self.shape[1] * self.shape[2] * hidden
        self.scores = nn.ModuleDict({m: FrameScores(f, embedding_dim, width) for m, f in spec.features.items()})
        modalities = list(spec.modalities)
        # chains → views of each → modalities of each
        self.chains = [[modalities]] if views == "early" else [[[m]] for m in modalities] if apart else [[[m] for m in modalities]]
        self.fields = nn.ModuleList()
        for chain in self.chains:
            sizes = len(spec.targets), number, len(chain), hidden, topology, states == "shared"
            self.fields.append(nn.ModuleList([Field(*sizes) for _ in range(layers)]))
        self.threshold = threshold
        self.unimodal_dims = dict.fromkeys(modalities, width)
        self.z_dim = len(spec.targets) * number
        self.part_dims = {f"layer_{i + 1}": self.z_dim for i in range(layers)}
        self.head = Expectation(len(spec.targets), torch.linspace(low, high, number))

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m, scores in self.scores.items():
            steps = scores(batch.sequences[m])
            encoded[m] = {"scores": steps, "mean": masked_mean(steps)}
        return encoded

    def fuse(self, encoded: Encoded) -> Fusion:
        totals = [torch.zeros(()) for _ in range(self.shape[0])]
        with torch.autocast(next(iter(encoded.values()))["mean"].device.type, enabled=False):
            for chain, fields in zip(self.chains, self.fields, strict=True):
                found = self._sum_paths(*self._join([[encoded[m]["scores"] for m in view] for view in chain]), fields)
                totals = [total.to(more) + more for total, more in zip(totals, found, strict=True)]
            # [targets, classes, batch] → [batch, targets·classes]
            layers = [(total - total.mean(1, keepdim=True)).permute(2, 0, 1).flatten(1) for total in totals]
            z = torch.stack(layers).sum(0)
        parts = {f"layer_{i + 1}": layer for i, layer in enumerate(layers)}
        return Fusion(self.head(z), z, {m: encoded[m]["mean"] for m in self.scores}, parts)

    def _join(self, chain: Ordered[Ordered[Sequence]]) -> tuple[Tensor, Bool[Tensor, "time batch"]]:
        """Scores of all views as [layer, time, target, class or 1, batch, view, state], and where any has a step."""
        time = max(s.mask.shape[1] for view in chain for s in view)
        values, masks = [], []
        for view in chain:
            filled = [F.pad(s.values.masked_fill(~s.mask.unsqueeze(2), 0), (0, 0, 0, time - s.mask.shape[1])) for s in view]
            values.append(torch.stack(filled).sum(0).unflatten(2, self.shape))
            masks += [F.pad(s.mask, (0, time - s.mask.shape[1])) for s in view]
        joined = torch.stack(values)
        joined = joined.to(torch.promote_types(joined.dtype, torch.float32))
        return joined.permute(3, 2, 4, 5, 1, 0, 6), torch.stack(masks).any(0).t()

    def _sum_paths(self, scores: Tensor, mask: Bool[Tensor, "time batch"], fields: Any) -> list[Tensor]:
        """log Z_y [target, class, batch] of each layer; 0 for rows that have stopped below it."""
        targets = self.shape[1]
        there = mask.unsqueeze(1).expand(-1, targets, -1)
        groups = torch.arange(len(mask), device=mask.device)[:, None, None].expand(there.shape)
        active = torch.ones_like(there[0])
        totals: list[Tensor] = []
        for i, field in enumerate(fields):
            nodes = field.find_nodes(scores[i])
            if i > 0:
                belongs = (F.one_hot(groups, len(mask)).permute(1, 2, 3, 0) * mask.t()[None, :, None, :]).to(nodes)
                belongs = belongs / belongs.sum(3, keepdim=True).clamp(min=1)
                nodes = torch.einsum("kbgt,tkybs->gkybs", belongs, nodes)
            forward, total = field(nodes, there)
            totals.append(total * active.unsqueeze(1))
            if i + 1 < self.shape[0]:
                with torch.no_grad():
                    marginals = field.find_marginals(nodes, there, forward, total)
                    change = (marginals[1:] - marginals[:-1]).abs().sum((2, 4))
                groups, there, active = regroup(groups, there, active, change, self.threshold)
        return totals

    def own_terms(self, batch: Batch, encoded: Encoded, fusion: Fusion) -> dict[str, Float[Tensor, ""]]:
        """−log p(y|x) of each layer's own p, averaged over rows with a label and over targets."""
        label = batch.label[: batch.labelled]
        nearest = (label.unsqueeze(2) - self.head.values.to(label)).abs().argmin(2)
        terms = {}
        for name in self.part_dims:
            log_p = fusion.parts[name][: len(label)].unflatten(1, (nearest.shape[1], -1)).log_softmax(2)
            terms[name] = -log_p.gather(2, nearest.unsqueeze(2)).mean()
        return terms


class FrameScores(nn.Module):
    """A modality's steps → ⟨U, x_t⟩ of all states, [batch, time, width], real steps first."""

    def __init__(self, feature: Feature, embedding_dim: int, width: int):
        super().__init__()
        self.steps = Steps(feature, embedding_dim)
        self.linear = nn.Linear(self.steps.dim, width, bias=False)

    def forward(self, sequence: Sequence) -> Sequence:
        sequence = real_steps_first(self.steps(sequence))
        return Sequence(self.linear(sequence.values.masked_fill(~sequence.mask.unsqueeze(2), 0)), sequence.mask)


class Expectation(nn.Module):
    """[batch, targets·classes] → Σ_y softmax(z)_y c_y, [batch, targets]."""

    values: Tensor

    def __init__(self, targets: int, values: Float[Tensor, " classes"]):
        super().__init__()
        self.targets = targets
        self.register_buffer("values", values, persistent=False)

    def forward(self, z: Float[Tensor, "batch scores"]) -> Float[Tensor, "batch targets"]:
        return z.unflatten(1, (self.targets, -1)).softmax(2) @ self.values.to(z)


class NoLoss(nn.Module):
    """0: the model learns by its own terms alone.

    >>> NoLoss()(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [2.0]]))
    tensor(0.)
    """

    def forward(self, prediction: Tensor, label: Tensor) -> Float[Tensor, ""]:
        return 0.0 * prediction.sum()


class Field(nn.Module):
    """V, E and what ties the views, over the product of their states: states^views joint ones, the last view's fastest."""

    index: Tensor

    def __init__(self, targets: int, classes: int, views: int, hidden: int, topology: Topology, shared: bool):
        super().__init__()
        self.links = list(combinations(range(views), 2)) if topology.startswith("linked") else []
        self.couplings = list(permutations(range(views), 2)) if topology.endswith("coupled") else []

        def draw(number: int, *shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(number, targets, classes, *shape).uniform_(-1, 1))

        self.edge = draw(views, hidden, hidden)
        self.vertex = draw(views, hidden) if shared else None
        self.link = draw(len(self.links), hidden, hidden) if self.links else None
        self.couple = draw(len(self.couplings), hidden, hidden) if self.couplings else None
        self.register_buffer("index", torch.tensor(list(product(range(hidden), repeat=views))).t(), persistent=False)

    def find_nodes(self, scores: Float[Tensor, "time target class batch view state"]) -> Tensor:
        """Scores of joint states at each step, [time, target, class, batch, joint]."""
        nodes = torch.stack([scores[..., c, at] for c, at in enumerate(self.index)]).sum(0)
        if self.vertex is not None:
            nodes = nodes + torch.stack([v[..., at] for v, at in zip(self.vertex, self.index, strict=True)]).sum(0).unsqueeze(2)
        if self.link is not None:
            pairs = zip(self.link, self.links, strict=True)
            nodes = nodes + torch.stack([v[..., self.index[c], self.index[d]] for v, (c, d) in pairs]).sum(0).unsqueeze(2)
        return nodes.expand(-1, *self.edge.shape[1:3], *nodes.shape[3:])

    def find_edges(self) -> Float[Tensor, "target class joint joint"]:
        """Scores of going from one joint state to the next."""
        ways = [(e, c, c) for c, e in enumerate(self.edge)]
        if self.couple is not None:
            ways += [(e, c, d) for e, (c, d) in zip(self.couple, self.couplings, strict=True)]
        return torch.stack([e[..., self.index[c][:, None], self.index[d][None, :]] for e, c, d in ways]).sum(0)

    def forward(self, nodes: Tensor, there: Bool[Tensor, "time target batch"]) -> tuple[list[Tensor], Tensor]:
        """log of the sums over paths to each state at each step, and log Z_y [target, class, batch]."""
        edges, keep = self.find_edges().exp(), there[:, :, None, :, None]
        reached = [torch.where(keep[0], nodes[0], 0.0)]
        for here, real in zip(nodes[1:], keep[1:], strict=True):
            reached.append(torch.where(real, here + add_paths(reached[-1], edges), reached[-1]))
        return reached, reached[-1].logsumexp(3)

    def find_marginals(self, nodes: Tensor, there: Tensor, reached: list[Tensor], total: Tensor) -> Tensor:
        """p(h_t | y, x), [time, target, class, batch, joint]."""
        edges, keep = self.find_edges().exp().transpose(2, 3), there[:, :, None, :, None]
        behind = [torch.zeros_like(nodes[0])]
        for after, real in zip(nodes.flip(0)[:-1], keep.flip(0)[:-1], strict=True):
            behind.append(torch.where(real, add_paths(after + behind[-1], edges), 0.0))
        return (torch.stack(reached) + torch.stack(behind[::-1]) - total.unsqueeze(3)).exp()


def add_paths(a: Float[Tensor, "target class batch joint"], edges: Float[Tensor, "target class joint joint"]) -> Tensor:
    """log Σ_h exp(a_h) edges_{h,h'}, the largest exp(a_h) taken out, so that the sum is never 0."""
    largest = a.detach().amax(3, keepdim=True)
    return largest + ((a - largest).exp() @ edges).log()
