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

import math
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from hydra import compose, initialize_config_dir
from linear_fusion import RHO, SIGMA, VALID, WEIGHT, WIDTH, D, Linear, LinearFusion, M
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from mdm.ownership import own
from mdm.runs import members
from mdm.runs.build import build_learner, build_splits
from mdm.runs.trainer import build_trainer

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
MEASURES = ("kl", "f", "wasserstein", "infomax", "hsic", "infonce")
OPTIONS = {
    # Half of the steps, each twice as long: as good here, and cheaper.
    **{name: {"critic.optimizer.lr": 0.002, "critic.steps": 5} for name in ("kl", "f", "wasserstein")},
    # One pass at 0.001 before each epoch is too few steps for a critic that must keep up: mirrored, the value then falls without
    # end because U_m shrinks away from q, and neither way does the closed form follow it.
    "infomax": {"critic.optimizer.lr": 0.01, "critic.steps": 5},
}
EPOCHS = {"infomax": 8, "infonce": 8, "hsic": 4, "club": 4}  # others: 5


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
    module = LinearFusion.__module__
    members.find_declared()[f"{module}.LinearFusion"] = EntryPoint("linear", f"{module}:LinearFusion", members.GROUP)
    cfg.model.backbone = {"_target_": f"{module}.LinearFusion"}
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
