"""What prior a copy has for cells that do not own it, and who its owners' prior is."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from pyro_mgvi.core import Absent, Dirac, SameAsOwn, owners_prior, proper_priors

MEMBER = torch.tensor([[True, False, True], [False, True, False]])


def own_prior():
    return dist.Normal(torch.zeros(4), 1.0).to_event(1)


def test_foreign_draws_of_the_prior_are_exactly_zero():
    draw = Dirac()(own_prior(), MEMBER).sample((100,))
    assert (draw[:, ~MEMBER] == 0).all()
    assert (draw[:, MEMBER] != 0).all()


def test_the_owners_prior_is_found_through_wrappers():
    own, values = own_prior(), torch.randn(2, 3, 4)
    expected = own.log_prob(values)
    for foreign in (Dirac(), Absent(), SameAsOwn()):
        for prior in (foreign(own, MEMBER), foreign(own, MEMBER).expand((2, 3))):
            torch.testing.assert_close(owners_prior(prior).log_prob(values), expected)


def test_the_owners_prior_has_all_dimensions():
    """A mask inside an event chooses dimensions, not owners."""
    active = torch.tensor([True, False, True, True])
    closed = dist.Delta(torch.zeros(4))
    own = dist.MaskedMixture(active, closed, dist.Normal(torch.zeros(4), 1.0)).to_event(1)
    values = torch.randn(2, 3, 4)
    found = owners_prior(Dirac()(own, MEMBER)).log_prob(values)
    torch.testing.assert_close(found, own_prior().log_prob(values))


def test_proper_priors_give_every_cell_a_density():
    def model():
        pyro.sample("t", Dirac()(own_prior(), MEMBER))
        pyro.sample("x", dist.Delta(torch.tensor(1.0)), obs=torch.tensor(1.0))

    trace = poutine.trace(proper_priors(model)).get_trace()
    assert trace.nodes["t"]["value"].shape == (2, 3, 4)
    assert (trace.nodes["t"]["value"] != 0).all()
    torch.testing.assert_close(
        trace.nodes["t"]["fn"].log_prob(trace.nodes["t"]["value"]),
        own_prior().log_prob(trace.nodes["t"]["value"]),
    )
    assert isinstance(trace.nodes["x"]["fn"], dist.Delta)  # what is observed stays
