import torch

from pyro_mgvi.kernels.dropout import dropout


def test_drop_out_keeps_the_share_and_the_mean_of_what_it_is_given():
    torch.manual_seed(0)
    h = torch.ones(7, 301, 203, requires_grad=True)  # not a multiple of four
    dropped = dropout(h, 0.1, training=True)
    kept = (dropped > 0).float()
    assert abs(kept.mean() - 0.9) < 5 * (0.09 / h.numel()) ** 0.5
    torch.testing.assert_close(dropped, kept / 0.9)
    excess = kept.flatten() - 0.9
    for lag in (1, 4):  # the bits of one draw, and two draws, are independent
        assert abs((excess[lag:] * excess[:-lag]).mean()) < 5 * 0.09 / h.numel() ** 0.5
    (gradient,) = torch.autograd.grad(dropped.sum(), h)
    torch.testing.assert_close(gradient, kept / 0.9)
    assert dropout(h, 0.1, training=False) is h
    assert not torch.equal(dropped, dropout(h, 0.1, training=True))
