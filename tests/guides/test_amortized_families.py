"""The heads of q(z | x): densities that integrate to one, Jacobians, remembered draws, the start, dependence on x."""

import pytest
import torch

import guides
from guides.amortization import HEADS
from guides.amortization.inverse_autoregressive import GatedAutoregression
from guides.amortization.realnvp import Coupling
from guides.errors import FamilyOptionError, UnknownFamilyError

NAMES = pytest.mark.parametrize("name", list(HEADS))
FLOWS = pytest.mark.parametrize("name", ["iaf", "realnvp"])
NUM_FEATURES = 4


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


def head(name, size, shift=0.3, init_scale=0.5, **options):
    """A head whose parameters are all away from the start, so that nothing is a special case."""
    made = HEADS[name](NUM_FEATURES, size, init_scale=init_scale, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(shift * torch.randn_like(parameter))
    return made


@NAMES
def test_densities_integrate_to_one(name):
    options = {"hidden_dims": (8,)} if name in ("iaf", "realnvp") else {}
    q = head(name, 2, shift=0.2, init_scale=1.0, **options)(torch.randn(2, NUM_FEATURES))
    draws = q.sample((1_000,))
    lower, upper, sd = draws.amin((0, 1)), draws.amax((0, 1)), draws.std(0).amin(0)
    # as far again beyond the furthest of 2,000 draws, in steps of an eighth of the smallest spread
    axes = [torch.arange(lo - (up - lo), up + (up - lo), s / 8.0) for lo, up, s in zip(lower, upper, sd, strict=True)]
    points = torch.cartesian_prod(*axes)
    density = q.log_prob(points[:, None, :]).detach().exp()
    mass = density.sum(0) * torch.stack([axis[1] - axis[0] for axis in axes]).prod()
    torch.testing.assert_close(mass, torch.ones(2), rtol=1e-6, atol=0.0)


@FLOWS
def test_flows_bend(name):
    """The density is no normal's: its logarithm has third differences, which a quadratic lacks."""
    q = head(name, 2)(torch.randn(1, NUM_FEATURES))
    line = torch.linspace(-2.0, 2.0, 9)[:, None, None] * torch.tensor([1.0, 0.7])
    assert q.log_prob(line).detach().diff(n=3, dim=0).abs().max() > 1e-3


@NAMES
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("batch", [(6,), (6, 1)])
def test_remembered_draws_have_the_density_of_any_value(name, size, batch):
    q = head(name, size)(torch.randn(*batch, NUM_FEATURES))
    assert q.batch_shape == batch
    assert q.event_shape == (size,)
    draws = q.expand((3, *batch)).rsample()
    assert draws.shape == (3, *batch, size)
    wanted = q.log_prob(draws.clone())
    assert wanted.shape == (3, *batch)
    expanded = q.expand((3, *batch))
    value = expanded.rsample()
    torch.testing.assert_close(expanded.log_prob(value), q.log_prob(value.clone()), rtol=1e-8, atol=1e-8)


@NAMES
def test_a_row_depends_on_its_own_features_alone(name):
    made, features = head(name, 3), torch.randn(5, NUM_FEATURES)
    value = torch.randn(5, 3)
    whole, few = made(features).log_prob(value), made(features[2:4]).log_prob(value[2:4])
    torch.testing.assert_close(few, whole[2:4], rtol=1e-12, atol=1e-12)
    assert (made(features + 1.0).log_prob(value) - whole).abs().min() > 1e-6


@pytest.mark.parametrize("make", [Coupling, GatedAutoregression])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("hidden", [(), (3,), (8, 8)])
def test_layers_have_autograds_jacobian_and_an_inverse(make, first, size, hidden):
    layer = make(first, NUM_FEATURES, size, hidden)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    features, x = torch.randn(NUM_FEATURES), torch.randn(size)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer.call_and_ladj(v, features)[0], x)
    y, ladj = layer.call_and_ladj(x, features)
    torch.testing.assert_close(ladj, jacobian.slogdet().logabsdet, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(layer.inv(y, features), x, rtol=1e-9, atol=1e-9)
    if make is GatedAutoregression:
        triangle = jacobian.triu() if first else jacobian.tril()
        torch.testing.assert_close(jacobian, triangle, rtol=0.0, atol=0.0)
    below = torch.autograd.functional.jacobian(lambda f: layer.call_and_ladj(x, f)[0], features)
    assert below.abs().amax(1).gt(1e-4).sum() >= size // 2  # the features move what is not kept


def test_every_coordinate_reaches_all_later_ones():
    layer = GatedAutoregression(False, NUM_FEATURES, 5, (3,))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter))
    features = torch.randn(NUM_FEATURES)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer.call_and_ladj(v, features)[0], torch.randn(5))
    assert (jacobian.abs() > 0.0).equal(torch.ones(5, 5).tril() > 0.0)


@NAMES
def test_heads_begin_with_one_width_for_every_row(name):
    q = HEADS[name](NUM_FEATURES, 3, init_scale=0.2)(torch.randn(4, NUM_FEATURES))
    sd = q.sample((20_000,)).std(0)
    # gates of two layers begin at 0.88: 0.88² = 0.78 of the scale; couplings and normals at 1
    assert sd.min() > 0.7 * 0.2
    assert sd.max() < 1.1 * 0.2


def test_a_full_rank_head_has_every_covariance_and_a_normal_one_none():
    features = torch.randn(4, NUM_FEATURES)
    covariance = head("full_rank", 3)(features).covariance_matrix
    assert (covariance[:, [1, 2, 2], [0, 0, 1]].abs() > 1e-4).all()
    assert (covariance[0] - covariance[1]).abs().min() > 1e-6
    root = head("full_rank", 3, shift=0.0)(features).scale_tril
    torch.testing.assert_close(root, (0.5 * torch.eye(3)).expand(4, 3, 3), rtol=1e-12, atol=1e-12)


@NAMES
@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_scales_stay_finite_at_extreme_features_in_float32(name, logit):
    made = HEADS[name](1, 1, init_scale=0.1).float()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(1.0)
    q = made(torch.tensor([[logit]], dtype=torch.float32))
    value = q.rsample()
    assert torch.isfinite(q.log_prob(value)).all()
    assert q.stddev.min() > 0.0


def test_options_and_names_are_checked():
    def model():
        raise AssertionError("not to be run")

    with pytest.raises(UnknownFamilyError, match=r"unknown guide family 'iav'.*nearest first: iaf"):
        guides.amortized(model, family="iav")
    with pytest.raises(FamilyOptionError, match=r"family 'normal' has no option 'num_transforms'; its options: none"):
        guides.amortized(model, num_transforms=3)
    with pytest.raises(FamilyOptionError, match=r"its options: hidden_dims, num_transforms"):
        guides.amortized(model, family="iaf", width=3)
    with pytest.raises(UnknownFamilyError, match=r"unknown guide family 'norml'"):
        guides.amortized(model, globals="norml")
    with pytest.raises(FamilyOptionError, match=r"init_scale: 0.0, wanted a positive number"):
        guides.amortized(model, init_scale=0.0)
    with pytest.raises(FamilyOptionError, match=r"encoder: found function, wanted an nn.Module"):
        guides.amortized(model, encoder=lambda x: x)
    with pytest.raises(FamilyOptionError, match=r"'num_transforms': 0, wanted a positive integer"):
        HEADS["iaf"](2, 2, num_transforms=0)
