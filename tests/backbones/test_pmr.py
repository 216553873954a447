"""PMR: what its gate and its weights do where they are known, and what it is without layers."""

import pytest
import torch

from mdm.backbones.mult import add_positions
from mdm.backbones.pmr import PMR, attend_to, join_in_time
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(6), "audio": Feature(5), "video": Feature(4)}


def spec(features=FEATURES):
    return DataSpec(features, ("y",), (-3.0, 3.0), (0.25,), aligned=False)


def batch():
    rng = torch.Generator().manual_seed(0)
    mask = torch.arange(4) < torch.tensor([4, 2, 3])[:, None]
    sequences = {m: Sequence(torch.randn(3, 4, f.dim, generator=rng), mask) for m, f in FEATURES.items()}
    return Batch(tuple("abc"), sequences, torch.zeros(3, 1))


def build(**options):
    torch.manual_seed(0)
    return PMR(spec(), **{"dim": 8, **options}).eval()


def shut(unit):
    """g = 0 by a bias, and no feed-forward."""
    unit.gate.weight.zero_()
    unit.gate.bias.fill_(-1e4)
    unit.layer.feed_forward[-1].weight.zero_()


def test_through_a_shut_gate_nothing_passes():
    """Each unit gives its target as it was, and layers of exchange change the prediction no more, however many there are."""
    shallow, deep, b = build(layers=1), build(layers=3), batch()
    with torch.no_grad():
        for model in (shallow, deep):
            for units in (*model.inward, *model.outward):
                for unit in units.values():
                    shut(unit)
            for mix in model.mixing:
                mix.feed_forward[3].weight.zero_()
                mix.feed_forward[3].bias.zero_()
        for m in ("project", "memory", "head"):
            getattr(deep, m).load_state_dict(getattr(shallow, m).state_dict())
        x = Sequence(torch.randn(3, 4, 8), torch.ones(3, 4, dtype=torch.bool))
        torch.testing.assert_close(shallow.inward[0]["audio"](x, x), x.values)
        torch.testing.assert_close(shallow(b).z, deep(b).z)


def test_without_weights_the_hub_is_a_mean():
    mix = build().mixing[0]
    with torch.no_grad():
        mix.score[2].weight.zero_()
        hubs = torch.randn(3, 2, 4, 8)
        torch.testing.assert_close(mix.weigh(hubs), hubs.mean(0))


def test_without_layers_one_transformer_reads_all():
    model, b = build(layers=0), batch()
    with torch.no_grad():
        steps = [model.encode(b)[m]["steps"] for m in FEATURES]
        whole = join_in_time([Sequence(add_positions(s.values), s.mask) for s in steps])
        read = model.memory(whole.values, whole.values, attend_to(whole, whole))
        want = torch.stack([row[mask].mean(0) for row, mask in zip(read, whole.mask, strict=True)])
        torch.testing.assert_close(model(b).z, want)


def test_no_gate_is_a_layer_of_mult():
    model = build(gate="none")
    unit = model.inward[0]["audio"]
    x, y = (Sequence(torch.randn(3, 4, 8), torch.ones(3, 4, dtype=torch.bool)) for _ in range(2))
    with torch.no_grad():
        torch.testing.assert_close(unit(x, y), unit.layer(x.values, y.values, attend_to(x, y)))


def test_what_it_cannot_be_built_of_is_refused():
    with pytest.raises(ValueError, match="PMR needs two modalities"):
        PMR(spec({"audio": Feature(5)}))
    for options in ({"heads": 3}, {"kernel": 2}):
        with pytest.raises(ValueError, match="PMR needs heads that divide dim and odd kernels"):
            build(**options)
