"""``penalty=sum``: several penalties in one run, each with its own terms, critic, estimate and streams."""

import copy

import pytest
import torch

from mdm.runs.build import build_learner, build_splits
from mdm.runs.naming import list_penalties, name_penalty, record_folder
from mdm.runs.protocol import run
from mdm.seeds import Stream

KL, CLUB = "+penalty@penalty.sum.kl=kl", "+penalty@penalty.sum.club=club"
BOTH = ("model=lmf", "penalty=sum", KL, CLUB)


def moved(a, b):
    """Whether every parameter differs."""
    return all(not torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_a_sum_trains_all_its_critics_and_reports_all_its_terms(config):
    cfg = config(*BOTH, "penalty.sum.kl.critic.steps=2", "penalty.sum.club.critic.steps=2")
    record = run(cfg, BOTH)
    folder = record_folder(cfg, BOTH)
    assert folder.parts[-2:] == ("club+kl", "seed=0")
    assert record["penalty"] == "club+kl"
    state = torch.load(folder / "best.ckpt", weights_only=True)
    learner = build_learner(cfg, build_splits(cfg))
    start = copy.deepcopy(learner.penalties)
    learner.load_state_dict(state["state_dict"])
    assert record["parameters"]["critics"] == sum(p.numel() for p in start.parameters())
    assert all(moved(start[name], learner.penalties[name]) for name in ("kl", "club"))
    for row in state["curve"]:
        assert {"train/kl/term", "train/club/term", "valid/kl/estimate", "valid/club/language_audio"} <= set(row)
        assert all(torch.isfinite(torch.tensor(value)) for value in row.values())


def test_every_term_enters_at_its_own_weight(config):
    """In the first step, before anything has moved: twice and half the weight are twice and half the term."""

    def terms(kl, club):
        cfg = config(*BOTH, f"penalty.sum.kl.weight={kl}", f"penalty.sum.club.weight={club}")
        splits, given = build_splits(cfg), []
        learner = build_learner(cfg, splits)
        learner._step, learner._fit_critic = given.append, lambda *_: None
        learner.training_step(next(iter(splits.train())), 0)
        assert list(given[0]) == ["task", "club/term", "kl/term"]
        assert all(term.requires_grad for term in given[0].values())
        return torch.stack(list(given[0].values())).detach()

    with Stream(0, "dropout").active():
        one = terms(1.0, 1.0)
    with Stream(0, "dropout").active():
        other = terms(2.0, 0.5)
    torch.testing.assert_close(other, one * torch.tensor([1.0, 0.5, 2.0]))


def test_a_member_starts_as_it_would_alone(config):
    """Critics have streams by name, so that a sum and its parts are pairs."""

    def built(*overrides):
        cfg = config("model=lmf", *overrides)
        return build_learner(cfg, build_splits(cfg))

    together, alone = built("penalty=sum", CLUB, KL), built("penalty=kl")
    for a, b in ((together.backbone, alone.backbone), (together.penalties["kl"], alone.penalties["kl"])):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_two_critics_of_one_kind_begin_apart(config):
    """Each from a stream of its own: from one stream for all, both would have the same weights."""
    cfg = config("penalty=sum", "+penalty@penalty.sum.a=kl", "+penalty@penalty.sum.b=kl")
    a, b = (dict(penalty.named_parameters()) for penalty in build_learner(cfg, build_splits(cfg)).penalties.values())
    drawn = [name for name, weight in a.items() if weight.ndim > 1]
    assert drawn
    assert not any(torch.equal(a[name], b[name]) for name in drawn)


def test_the_order_of_members_says_nothing(config):
    one, other = config("penalty=sum", KL, CLUB), config("penalty=sum", CLUB, KL)
    assert list(list_penalties(one)) == list(list_penalties(other)) == ["club", "kl"]
    assert name_penalty(one) == name_penalty(other) == "club+kl"


def test_members_of_other_names_are_filed_under_both(config):
    """So two members of one name are two folders, and one penalty may be there twice."""
    assert name_penalty(config("penalty=sum", "+penalty@penalty.sum.a=kl", "+penalty@penalty.sum.b=club")) == "a=kl+b=club"
    assert name_penalty(config("penalty=sum", "+penalty@penalty.sum.a=kl", "+penalty@penalty.sum.b=kl")) == "a=kl+b=kl"
    assert name_penalty(config("penalty=sum", KL, "+penalty@penalty.sum.b=none")) == "b=none+kl"


def test_what_is_set_of_a_member_is_part_of_the_folder(config):
    overrides = [*BOTH, "penalty.sum.kl.weight=2"]
    assert record_folder(config(*overrides), overrides).parts[-3:] == ("club+kl", "penalty.sum.kl.weight=2", "seed=0")


def test_none_adds_nothing_to_a_sum(config):
    assert list(list_penalties(config("penalty=sum", KL, "+penalty@penalty.sum.b=none"))) == ["kl"]


def test_the_models_own_penalty_joins_the_sum(config):
    cfg = config("model=mmim", "penalty=sum", KL)
    assert list(build_learner(cfg, build_splits(cfg)).objectives) == ["own", "kl"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["penalty=sum"], "none of them own, which is the model's, but has none; add each whole"),
        (["penalty=sum", "+penalty@penalty.sum.none=none"], "but has none; add each whole"),
        (["penalty=sum", "+penalty@penalty.sum.own=kl"], "but has own; add each whole"),
        (["penalty=sum", "+penalty.sum.kl=kl"], r"but has kl; add each whole, as \+penalty@penalty\.sum\.kl=kl"),
        (["penalty=sum", "+penalty.sum.kl.weight=1"], "but has kl; add each whole"),
        (["penalty=sum", "+penalty@penalty.sum.s=sum"], "but has s; add each whole"),
        (["penalty=kl", CLUB], r"Only penalty=sum has members, got penalty=kl with club; .* \+penalty@penalty\.sum\.kl=kl"),
        (
            ["penalty=sum", KL, "penalty.sum.kl.weight=much"],
            r"penalty\.sum\.kl\.weight must be a finite number above 0, but is 'much'",
        ),
        (["penalty=sum", KL, "penalty.sum.kl.critic.steps=0.5"], r"penalty\.sum\.kl\.critic\.steps must be a whole number"),
        (["penalty=sum", KL, "penalty.sum.kl.weight=-1"], "weight must be a finite number above 0, but is -1"),
        (["penalty=sum", KL, "model=baseline"], "which model=baseline lacks, got penalty=kl"),
    ],
)
def test_what_is_no_sum_is_refused_before_anything_is_written(config, tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        run(config(*overrides), overrides)
    assert not (tmp_path / "outputs").exists()
