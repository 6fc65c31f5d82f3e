import pytest
import torch
from torch import nn

from crema_core.train.optim import clear_gradients, decays, gradient_norm, make_optimizer, set_learning_rate


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("modalities.radar.lora.0.query.A", (2, 8), True),
        ("modalities.radar.mmqa.queries", (1, 4, 8), True),
        ("modalities.normals.mmqa.output.weight", (8, 8), True),  # the sense is called so, it is no norm
        ("modalities.radar.mmqa.norm.weight", (8,), False),
        ("modalities.radar.mmqa.output.bias", (8,), False),
        ("fusion.blocks.radar.bias", (2, 8), False),
    ],
)
def test_matrices_decay_and_norms_and_biases_do_not(name: str, shape: tuple[int, ...], expected: bool) -> None:
    assert decays(name, torch.zeros(shape)) is expected


def test_a_parameter_without_gradient_keeps_value_and_moments() -> None:
    parameters = {"a.weight": nn.Parameter(torch.ones(2, 2)), "b.weight": nn.Parameter(torch.ones(2, 2))}
    optimizer = make_optimizer(parameters, lr=0.1, weight_decay=0.5, betas=(0.9, 0.999))
    a, b = parameters.values()
    for parameter in (a, b):
        parameter.grad = torch.ones(2, 2)
    optimizer.step()
    clear_gradients([a, b])
    kept, moment = b.detach().clone(), optimizer.state[b]["exp_avg"].clone()
    for _ in range(3):
        a.grad = torch.ones(2, 2)
        optimizer.step()
        clear_gradients([a, b])
    assert torch.equal(b, kept)
    assert torch.equal(optimizer.state[b]["exp_avg"], moment)
    assert optimizer.state[b]["step"] == 1


def test_the_norm_is_over_all_gradients_together() -> None:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert gradient_norm(parameters) == pytest.approx(5.0)
    assert gradient_norm(parameters[2:]) == 0.0


def test_the_rate_is_set_for_all_groups() -> None:
    parameters = {"a.weight": nn.Parameter(torch.ones(2, 2)), "a.bias": nn.Parameter(torch.ones(2))}
    optimizer = make_optimizer(parameters, lr=0.1, weight_decay=0.5, betas=(0.9, 0.999))
    set_learning_rate(optimizer, 0.3)
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.3, 0.5), (0.3, 0.0)]
