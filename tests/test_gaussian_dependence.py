"""Every measure of dependence against closed forms of a linear fusion of Gaussian modalities that the real learner trains.

Z = A [x_1; …; x_M] and U_m = B_m x_m of the component-wise model are Gaussian, so what they hold of the modalities' dependence is
a function of A and B: a number about the population, in which no sample, critic or training row has a part. A penalty at a
weight that leaves the task little say must raise it, its mirror image (the weight negated) must lower it, and the estimate that
it reports on validation rows must go along. The same penalties with measure_only are the reference for both.

To descend an estimate works only as far as the critic keeps up: with five times the backbone's learning rate of 0.002 and the
default critics, the mirrored kl and wasserstein report estimates below 0 while the closed form rises.

Each is one trajectory of linear maps for a few epochs, which no rounding sends elsewhere: noise of 10⁻⁶ on every weight after
every step moves what a critic reports by 0.02 at most and a closed form by 0.006, and every threshold is more than ten standard
deviations of this noise away. (Other seeds are other maps and other data: over seven of them the ratios that are raised spread by
0.2 to 0.6, those that are lowered by 0.04 to 0.14.)
"""

import itertools
import math
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hydra import compose, initialize_config_dir
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import nn

from mdm.backbones.base import Backbone
from mdm.data.gaussian import gaussian_total_correlation
from mdm.ownership import own
from mdm.runs import members
from mdm.runs.build import build_learner, build_splits
from mdm.runs.trainer import build_trainer
from mdm.types import Fusion

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
D, M, RHO, K, WIDTH, VALID, WEIGHT = 5, 3, 0.6, 6, 2, 512, 10.0
SIGMA = np.kron((1 - RHO) * np.eye(M) + RHO, np.eye(D))  # modality by modality
MEASURES = ("kl", "f", "wasserstein", "infomax", "hsic", "infonce")
OPTIONS = {
    # Half of the steps, each twice as long: as good here, and cheaper.
    **{name: {"critic.optimizer.lr": 0.002, "critic.steps": 5} for name in ("kl", "f", "wasserstein")},
    # One pass at 0.001 before each epoch is too few steps for a critic that must keep up: mirrored, the value then falls without
    # end because U_m shrinks away from q, and neither way does the closed form follow it.
    "infomax": {"critic.optimizer.lr": 0.01, "critic.steps": 5},
}
EPOCHS = {"infomax": 8, "infonce": 8, "hsic": 4, "club": 4}  # others: 5


class LinearFusion(Backbone):
    """Z = A [x_1; …; x_M] and U_m = B_m x_m, a linear head on Z."""

    def __init__(self, spec):
        super().__init__()
        dims = {m: feature.dim for m, feature in spec.features.items()}
        self.z_dim, self.unimodal_dims = K, dict.fromkeys(dims, WIDTH)
        self.a = nn.Linear(sum(dims.values()), K, bias=False)
        self.b = nn.ModuleDict({m: nn.Linear(d, WIDTH, bias=False) for m, d in dims.items()})
        self.head = nn.Linear(K, 1)

    def encode(self, batch):
        return {m: {"x": sequence.values[:, 0]} for m, sequence in batch.sequences.items()}

    def fuse(self, encoded):
        z = self.a(torch.cat([parts["x"] for parts in encoded.values()], 1))
        return Fusion(self.head(z), z, {m: b(encoded[m]["x"]) for m, b in self.b.items()})


# ---- closed forms


@dataclass(frozen=True)
class Linear:
    """A and B_m, of which all closed forms are functions."""

    a: np.ndarray
    b: dict[str, np.ndarray]

    @classmethod
    def of(cls, backbone):
        a, *b = (layer.weight.detach().double().numpy().copy() for layer in (backbone.a, *backbone.b.values()))
        return cls(a, dict(zip(backbone.b, b, strict=True)))

    @property
    def kl(self):
        """KL(N(0, P) ‖ N(0, Q)), P = AΣAᵀ, Q = AAᵀ: the dependence that is left in Z."""
        p, q = self.a @ SIGMA @ self.a.T, self.a @ self.a.T
        return (np.trace(np.linalg.solve(q, p)) - K + np.linalg.slogdet(q)[1] - np.linalg.slogdet(p)[1]) / 2

    @property
    def bures(self):
        """W2 of two Gaussians, √(tr P + tr Q − 2 tr (Q^½ P Q^½)^½), of what layer normalisation leaves.

        It takes each row's mean and length. So P and Q are those of centred columns, each brought to total variance K: the W2 of Z
        itself would grow with |A|, which the critic does not see. (The normalised rows are no Gaussians; this is the same
        geometry, not their W1, for which see the assignment below.)
        """
        a = self.a - self.a.mean(0)
        p, q = ((c * K / np.trace(c)) for c in (a @ SIGMA @ a.T, a @ a.T))
        root = scipy.linalg.sqrtm(q).real
        return math.sqrt(max(2 * K - 2 * np.trace(scipy.linalg.sqrtm(root @ p @ root).real), 0.0))

    @property
    def information(self):
        """I(U_i; U_j) of every pair."""
        values = {}
        for (i, x), (j, y) in itertools.combinations(self.b.items(), 2):
            covariance = np.block([[x @ x.T, RHO * x @ y.T], [RHO * y @ x.T, y @ y.T]])
            values[f"{i}_{j}"] = gaussian_total_correlation(covariance, [WIDTH, WIDTH])
        return values

    @property
    def by_dimension(self):
        """Σ_k I(U_l; U_mk) = −½ Σ_k log(1 − R²_k) for language l and each other modality m: what infomax is about.

        Its q and its entropy are of each dimension alone, so what two dimensions of U_m repeat counts twice, and to raise the
        value the encoder may give up a dimension of U_m for a copy of another. I(U_l; U_m) need not rise with it, and does not.
        """
        x, values = self.b["language"], {}
        for m in ("audio", "video"):
            cross = RHO * self.b[m] @ x.T
            explained = np.diag(cross @ np.linalg.solve(x @ x.T, cross.T)) / np.diag(self.b[m] @ self.b[m].T)
            values[f"language_{m}"] = float(-np.log1p(-explained).sum() / 2)
        return values

    def of_measure(self, name):
        if name in ("kl", "f", "wasserstein"):
            return {"estimate": self.kl}
        return self.by_dimension if name == "infomax" else self.information


def test_closed_forms_of_maps_that_are_known():
    """A that reads the sum and a difference of two modalities' first coordinate; B_m that read the same or different ones."""
    a = np.zeros((2, M * D))
    a[0, [0, D]] = 1.0
    a[1, [0, D]] = 1.0, -1.0
    b = {"language": np.eye(2, D), "audio": np.eye(2, D), "video": np.eye(D)[1:3]}
    linear = Linear(np.concatenate([a, np.eye(M * D)[1:5]]), b)
    # Variances 2(1 ± ρ) against 2 each: the information of a bivariate Gaussian. The other rows are of one modality.
    one = -0.5 * math.log(1 - RHO**2)
    assert linear.kl == pytest.approx(one)
    assert linear.information == pytest.approx({"language_audio": 2 * one, "language_video": one, "audio_video": one})
    assert linear.by_dimension == pytest.approx({"language_audio": 2 * one, "language_video": one})
    copied = Linear(linear.a, {**b, "audio": np.array([[1.0, 0, 0, 0, 0], [1, 0, 0, 0, 0.01]])})
    assert copied.by_dimension["language_audio"] == pytest.approx(2 * one, rel=1e-3)
    assert copied.information["language_audio"] == pytest.approx(one, rel=1e-3)
    assert linear.bures == pytest.approx(Linear(7 * linear.a + 3, b).bures)
    assert Linear(np.eye(K, M * D), b).kl == pytest.approx(Linear(np.eye(K, M * D), b).kl)


# ---- training


@dataclass(frozen=True)
class Trained:
    """What training made of a map: before, after, and the curve's last estimates by penalty."""

    before: Linear
    after: Linear
    estimates: dict[str, dict[str, float]]

    def change(self, name):
        """The closed form's sum before and after."""
        return [sum(linear.of_measure(name).values()) for linear in (self.before, self.after)]

    def reported(self, name):
        return sum(self.estimates[name].values())


def train(folder, names, *, measure_only=False, sign=1, epochs=5):
    chosen = [f"penalty={names[0]}"] if len(names) == 1 else ["penalty=sum", *(f"+penalty@penalty.sum.{n}={n}" for n in names)]
    data = {"train": 1284, "valid": VALID, "test": 1, "dim": D, "modalities": M, "rho": RHO}
    overrides = [
        *("data=gaussian", "data.batch_size=128", *(f"data.segments.{key}={value}" for key, value in data.items())),
        *("model=lmf", "model.optimizer.lr=0.003", f"trainer.max_epochs={epochs}", "trainer.patience=null", *chosen),
        f"paths.outputs={folder}",
    ]
    for name in names:
        node = "penalty" if len(names) == 1 else f"penalty.sum.{name}"
        options = {"weight": WEIGHT, "measure_only": measure_only, **OPTIONS.get(name, {})}
        overrides += [f"{node}.{key}={value}" for key, value in options.items()]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", overrides)
    # As an installed package would declare it.
    members.find_declared()[f"{__name__}.LinearFusion"] = EntryPoint("linear", f"{__name__}:LinearFusion", members.GROUP)
    cfg.model.backbone = {"_target_": f"{__name__}.LinearFusion"}
    splits = build_splits(cfg)
    learner = build_learner(cfg, splits)
    for objective in learner.objectives.values():
        # A penalty refuses a negative weight, as a config must not have one.
        objective.penalty.weight *= sign
    before = Linear.of(learner.backbone)
    folder.mkdir(parents=True, exist_ok=True)
    with own(folder) as owner:
        build_trainer(cfg, owner, splits.spec).fit(learner, splits.train(), splits.valid())
    row = learner.curve[-1]
    estimates = {n: {k.split("/")[2]: v for k, v in row.items() if k.startswith(f"valid/{n}/")} for n in names}
    return Trained(before, Linear.of(learner.backbone), estimates)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """All measures at once, none of them added to the loss: one map, and what each critic says of it."""
    return train(tmp_path_factory.mktemp("measured"), (*MEASURES, "club"), measure_only=True, epochs=4)


@pytest.fixture(scope="module", params=MEASURES)
def raised(request, tmp_path_factory):
    name = request.param
    return name, train(tmp_path_factory.mktemp(name), (name,), epochs=EPOCHS.get(name, 5))


def test_measuring_leaves_dependence_to_the_task(measured):
    """The task alone reads Z, which moves a little towards what the label depends on; U_m has no gradient at all."""
    assert measured.after.information == measured.before.information
    before, after = measured.change("kl")
    assert abs(after - before) < 0.12


def test_a_penalty_raises_the_closed_form_and_its_own_estimate(raised, measured):
    name, result = raised
    before, after = result.change(name)
    assert after > 1.3 * before
    assert after > measured.change(name)[1] + 0.12
    assert result.reported(name) > measured.reported(name) + 0.1
    if name == "wasserstein":
        assert result.after.bures > 1.2 * result.before.bures
        assert result.after.bures > 1.05 * measured.after.bures


@pytest.mark.parametrize("name", MEASURES)
def test_the_mirrored_penalty_lowers_them(name, measured, tmp_path):
    result = train(tmp_path, (name,), sign=-1, epochs=EPOCHS.get(name, 5))
    before, after = result.change(name)
    assert after < 0.7 * before
    assert result.reported(name) < measured.reported(name)
    if name == "wasserstein":
        assert result.after.bures < 0.6 * result.before.bures


def test_club_lowers_the_closed_form_and_its_own_estimate(measured, tmp_path):
    result = train(tmp_path, ("club",), epochs=EPOCHS["club"])
    before, after = result.change("club")
    assert after < 0.5 * before
    assert result.reported("club") < measured.reported("club") - 0.1


# ---- on which side of the closed form an estimate lies


def standard_error(linear, name):
    """Of the mean of log p/q over the validation rows: Var = ½ Σ (λ−1)² over the eigenvalues of Q⁻¹P, for a pair Σ ρ_c²."""
    if name in ("kl", "f"):
        values = scipy.linalg.eigh(linear.a @ SIGMA @ linear.a.T, linear.a @ linear.a.T, eigvals_only=True)
        return math.sqrt(((values - 1) ** 2).sum() / 2 / VALID)
    return math.sqrt(WIDTH * RHO**2 / VALID)


@pytest.mark.parametrize("name", ["kl", "f", "infonce"])
def test_lower_bounds_stay_below(name, measured):
    """Within three standard errors, and above 0: the critic has found something."""
    for key, truth in measured.after.of_measure(name).items():
        assert 0.02 < measured.estimates[name][key] < truth + 3 * standard_error(measured.after, name)


def test_estimates_lie_on_their_side_where_they_are_raised(raised):
    """Where encoder and critic together fitted the training rows, on others.

    InfoMax's mixture has an entropy that is too high by at most log 2, where the two classes coincide. HSIC is no bound, but
    has a closed form of its own; √(1/n) is the size of its error. Wasserstein: see `assignment`; a gradient penalty may exceed
    the distance by a tenth.
    """
    name, result = raised
    error = standard_error(result.after, name)
    for key, estimate in result.estimates[name].items():
        if name == "hsic":
            assert estimate == pytest.approx(alignment(*(result.after.b[m] for m in key.split("_"))), abs=VALID**-0.5)
        elif name == "wasserstein":
            assert 0.4 < estimate < 1.1 * assignment(result.after.a)
        else:
            assert estimate < result.after.of_measure(name)[key] + 3 * error + (math.log(2) if name == "infomax" else 0)


def alignment(x, y):
    """Normalised HSIC of U_i and U_j, columns standardised, for kernels whose s is the median squared distance.

    For jointly Gaussian rows of covariance S, with D = diag(1/s) and blocks S_x, S_y:
    E k k' = |I + 4SD|^{-½}, E_x' k = |I + 2S_x/s|^{-½} e^{−xᵀ(sI + 2S_x)⁻¹x}, whose products have Gaussian means too.
    """
    blocks = [u / np.sqrt(np.diag(u @ u.T))[:, None] for u in (x, y)]
    draws = [np.random.default_rng(0).standard_normal((400, D)) @ u.T for u in blocks]
    scales = [np.median(cdist(u, u, "sqeuclidean")[np.triu_indices(400, 1)]) for u in draws]

    def hsic(i, j, rho):
        (u, v), (s, t) = (blocks[i], blocks[j]), (scales[i], scales[j])
        eye, su, sv = np.eye(WIDTH), u @ u.T, v @ v.T
        both = np.block([[su, rho * u @ v.T], [rho * v @ u.T, sv]])
        joint = np.linalg.det(np.eye(2 * WIDTH) + 4 * both / np.repeat([s, t], WIDTH)) ** -0.5
        apart = [np.linalg.det(eye + 4 * c / r) ** -0.5 for c, r in ((su, s), (sv, t))]
        inner = scipy.linalg.block_diag(*(np.linalg.inv(r * eye + 2 * c) for c, r in ((su, s), (sv, t))))
        heights = [np.linalg.det(eye + 2 * c / r) ** -0.5 for c, r in ((su, s), (sv, t))]
        mixed = math.prod(heights) * np.linalg.det(np.eye(2 * WIDTH) + 2 * both @ inner) ** -0.5
        return joint + math.prod(apart) - 2 * mixed

    return hsic(0, 1, RHO) / math.sqrt(hsic(0, 0, 1.0) * hsic(1, 1, 1.0))


def assignment(a):
    """W1 of 500 normalised rows of Z and of Z̄, computed exactly: its mean over samples is at least that of the laws."""
    x = np.random.default_rng(0).standard_normal((2, 500, M * D))
    z = np.stack([x[0] @ np.linalg.cholesky(SIGMA).T, x[1]]) @ a.T
    z = z - z.mean(2, keepdims=True)
    cost = cdist(*(z / z.std(2, keepdims=True)))
    return cost[linear_sum_assignment(cost)].mean()


def test_club_stays_above_while_its_q_follows(measured):
    """On rows that nothing was fitted on, of maps that do not run away from it.

    (Lowered, it reads less than the closed form: q describes the map of some steps ago.)
    """
    for key, truth in measured.after.information.items():
        assert measured.estimates["club"][key] > truth - 3 * standard_error(measured.after, "club")
