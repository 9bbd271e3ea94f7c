"""One network for each copy, computed together."""

import torch

from pyro_mgvi.core import EncoderInput


def test_fused_encoders_equal_separate_networks_with_copied_weights(mgvi, batch):
    fused = mgvi.guide.encoder.eval()
    x = torch.randn(7, 60)
    posteriors = fused(EncoderInput(x))
    names = [("z", 0), *(("t", s) for s in range(3))]
    for i, (name, copy) in enumerate(names):
        first = torch.nn.Linear(60, 128)
        norm = torch.nn.LayerNorm(128)
        head = fused.heads[name]
        with torch.no_grad():
            first.weight.copy_(fused.first.weight[i].T), first.bias.copy_(fused.first.bias[i, 0])
            norm.weight.copy_(fused.gain[i, 0]), norm.bias.copy_(fused.shift[i, 0])
            hidden = torch.relu(norm(first(x)))
            loc, raw = (hidden @ head.weight[copy] + head.bias[copy]).chunk(2, -1)
            scale = torch.nn.functional.softplus(raw + 0.5) + 1e-4
        theirs = [part[copy] for part in posteriors[name]]
        torch.testing.assert_close(theirs[0], loc, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(theirs[1], scale, rtol=1e-4, atol=1e-5)
