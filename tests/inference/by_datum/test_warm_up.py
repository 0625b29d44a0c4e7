"""Chains that got lost restart where others are; chains in modes of some mass stay."""

import torch

from ppl_models.inference.by_datum.warm_up import Warmth


def test_lost_chains_move_to_chains_of_their_own_datum():
    points = torch.arange(24.0).reshape(4, 3, 2)
    log_mass = torch.tensor([[0.0, -30.0, 0.0], [-40.0, 0.0, -5.0], [-1.0, -50.0, 0.0], [-2.0, 1.0, -11.0]])
    moved = Warmth(log_mass, 1).relocated(points, torch.Generator().manual_seed(0))
    lost = log_mass < log_mass.max(0).values - 12.0
    assert torch.equal(moved[~lost], points[~lost])
    for chain, datum in lost.nonzero().tolist():
        kept = points[:, datum][~lost[:, datum]]
        assert any(torch.equal(moved[chain, datum], one) for one in kept)
    assert int(lost.sum()) == 3
