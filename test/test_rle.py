"""Residual log-likelihood and its flow, against numbers computed by hand."""

import math

import pytest
import torch

from pave_ros.models.flow import RealNVP
from pave_ros.training.rle import residual_log_likelihood

LOG_2PI = math.log(2 * math.pi)


def constant_flow(mean: float, scale: float, shift: float, masks=((0, 1),)) -> RealNVP:
    """A flow whose networks answer the same for every point: s = scale and t = shift."""
    flow = RealNVP(mean, masks, hidden=4)
    for nets, value in ((flow.s, math.atanh(scale)), (flow.t, shift)):
        for net in nets:
            torch.nn.init.zeros_(net[4].weight)
            torch.nn.init.constant_(net[4].bias, value)
    return flow.double()


@torch.no_grad()
def test_flow_without_movement_is_its_normal_distribution():
    points = torch.tensor([[0.0, 0.0], [1.0, -2.0], [0.5, 0.5]]).double()
    densities = constant_flow(0.0, 0.0, 0.0)(points)
    torch.testing.assert_close(densities, torch.tensor([0.0, -2.5, -0.25]).double() - LOG_2PI)
    densities = constant_flow(0.5, 0.0, 0.0)(points)
    torch.testing.assert_close(densities, torch.tensor([-0.25, -3.25, 0.0]).double() - LOG_2PI)


@torch.no_grad()
def test_one_step_scales_and_shifts_the_coordinate_that_moves():
    # The mask (0, 1) keeps y. x = 2 becomes (2 - 1) / e^0.5, and the density of x shrinks by e^0.5.
    flow = constant_flow(0.0, 0.5, 1.0)
    expected = -(math.exp(-1) + 9) / 2 - LOG_2PI - 0.5
    assert flow(torch.tensor([2.0, 3.0]).double()).item() == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_steps_run_from_the_last_to_the_first_and_see_what_the_others_made():
    flow = constant_flow(0.0, 0.0, 0.0, masks=((0, 1), (1, 0)))
    # The second step shifts y by LeakyReLU's chain on x = 2: 3 * 2 = 6; the first shifts x by 1.
    with torch.no_grad():
        for layer, weight in ((0, 1.0), (2, 1.0), (4, 3.0)):
            flow.t[1][layer].weight.zero_()
            flow.t[1][layer].weight[:, 0] = weight if layer != 4 else torch.tensor([0.0, weight])
            flow.t[1][layer].bias.zero_()
        flow.t[0][4].bias.fill_(1.0)
    # z = (2 - 1, 10 - 6)
    assert flow(torch.tensor([2.0, 10.0]).double()).item() == pytest.approx(-(1 + 16) / 2 - LOG_2PI, abs=1e-9)


def test_flow_integrates_to_one():
    torch.manual_seed(0)
    flow = RealNVP(0.5).double()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    axis = torch.linspace(-15, 15, 601).double()
    with torch.no_grad():
        total = flow(torch.cartesian_prod(axis, axis)).exp().sum() * 0.05**2
    assert total.item() == pytest.approx(1, abs=2e-3)


def test_flow_has_the_published_keys():
    shapes = {key: tuple(value.shape) for key, value in RealNVP().state_dict().items()}
    assert shapes["mask"] == (6, 2)
    assert len(shapes) == 1 + 2 * 6 * 3 * 2
    assert shapes["s.5.0.weight"] == (64, 2) and shapes["s.0.2.weight"] == (64, 64)
    assert shapes["t.0.4.weight"] == (2, 64) and shapes["t.3.4.bias"] == (2,)
    assert RealNVP().mask.tolist() == [[0, 1], [1, 0]] * 3


def test_loss_of_a_keypoint_by_hand():
    points = torch.tensor([[[0.3, -0.1], [0.0, 0.0]]]).double().requires_grad_()
    sigmas = torch.tensor([[[0.1, 0.2], [0.5, 0.5]]]).double()
    truth = torch.tensor([[[0.1, 0.1], [float("nan"), 9.0]]]).double()
    labelled = torch.tensor([[True, False]])
    losses = residual_log_likelihood(points, sigmas, truth, labelled, constant_flow(0.0, 0.0, 0.0))
    # Errors 0.2 and -0.2 are 2 and -1 sigma: -log of the normal density is (4 + 1) / 2 + log 2 pi, for both.
    flow = 2.5 + LOG_2PI
    for axis, (sigma, error) in enumerate(((0.1, 0.2), (0.2, 0.2))):
        laplace = math.log(sigma) + LOG_2PI / 2 + error / (math.sqrt(2) * sigma)
        assert losses[0, 0, axis].item() == pytest.approx(math.log(sigma) + flow + laplace, abs=1e-6)
    assert losses[0, 1].tolist() == [0.0, 0.0]
    losses.sum().backward()
    # d/dx: the flow counts for both coordinates, 2 error / sigma^2; the Laplace part once, 1 / (sqrt 2 sigma).
    assert points.grad[0, 0, 0].item() == pytest.approx(2 * 0.2 / 0.1**2 + 1 / (math.sqrt(2) * 0.1), rel=1e-6)
    assert points.grad[0, 1].tolist() == [0.0, 0.0]
