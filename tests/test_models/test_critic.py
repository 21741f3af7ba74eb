"""Test the critic's sizes, its loss and its gradient penalty."""

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from mmcast.models.losses.critic import WassersteinCritic


def tiny_critic(**changes):
    settings = dict(in_channels=1, channels=2, init_std=0.3)
    return WassersteinCritic(**{**settings, **changes})


def two_maps(count=2, channels=1, size=(24, 26), dtype=torch.float32):
    g = torch.Generator().manual_seed(1)
    shape = (2, count, channels, *size)
    return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)


def random_point(fake, real, seed):
    """Return the points between the two that the critic draws after this seed."""
    torch.manual_seed(seed)
    share = torch.rand(len(real), 1, 1, 1)
    return share * real + (1 - share) * fake


class TestResearchCode:
    def test_number_of_weights(self):
        critic = WassersteinCritic(2, channels=64, out_channels=2, batch_norm=True)
        assert sum(p.numel() for p in critic.parameters()) == 2_773_698
        assert sum(isinstance(part, nn.BatchNorm2d) for part in critic.modules()) == 3

    def test_patches_of_a_crop(self):
        with torch.device('meta'):
            critic = WassersteinCritic(2, out_channels=2, batch_norm=True)
            scores = critic.score(torch.zeros(1, 2, 480, 480))
        assert scores.shape == (1, 2, 58, 58)


def test_settings_by_default():
    critic = MODELS.build(dict(type='WassersteinCritic', in_channels=20))
    assert critic.penalty_weight == 10
    assert not any(isinstance(part, nn.BatchNorm2d) for part in critic.modules())
    with torch.no_grad():
        assert critic.score(torch.zeros(2, 20, 24, 40)).shape == (2, 1, 1, 3)
    assert float(critic.layers[0].weight.detach().std()) == pytest.approx(
        1e-3, rel=0.05
    )
    assert all((p == 0).all() for n, p in critic.named_parameters() if 'bias' in n)


def test_score_of_a_sample_does_not_depend_on_the_batch():
    maps = two_maps(3)[0]
    for batch_norm in (False, True):
        critic = tiny_critic(batch_norm=batch_norm)
        whole, alone = critic.score(maps)[:1], critic.score(maps[:1])
        assert torch.allclose(whole, alone, atol=1e-6) != batch_norm


@pytest.mark.parametrize('size', [(23, 64), (64, 23), (8, 8)])
def test_small_maps_are_refused(size):
    critic = tiny_critic()
    with pytest.raises(ValueError, match=f'maps of {size[0]}x{size[1]} .*24x24'):
        critic.score(torch.zeros(1, 1, *size))
    assert critic.score(torch.zeros(1, 1, 24, 24)).numel() == 1


class TestLoss:
    @pytest.mark.parametrize('weight', [0.0, 10.0, 100.0])
    def test_is_minus_the_distance_plus_the_weighted_penalty(self, weight):
        fake, real = two_maps()
        critic = tiny_critic(penalty_weight=weight)
        found = critic(fake, real)
        with torch.no_grad():
            distance = critic.score(real).mean() - critic.score(fake).mean()
        assert abs(float(distance)) > 1e-5
        torch.testing.assert_close(found['critic_distance'].detach(), distance)
        torch.testing.assert_close(
            found['critic_loss'],
            weight * found['critic_penalty'] - found['critic_distance'],
        )
        assert list(found) == ['critic_loss', 'critic_distance', 'critic_penalty']

    def test_learning_tells_true_from_predicted(self):
        """Train on maps of two constants: true ones must end with the higher score."""
        critic = tiny_critic(channels=4, init_std=0.1)
        optimizer = torch.optim.Adam(critic.parameters(), lr=0.003)
        fake, real = torch.zeros(4, 1, 24, 24), torch.full((4, 1, 24, 24), 0.1)
        before = float(critic(fake, real)['critic_distance'].detach())
        for _ in range(100):
            optimizer.zero_grad()
            found = critic(fake, real)
            found['critic_loss'].backward()
            optimizer.step()
        # The distance between the two maps, which a slope of 1 turns into scores.
        apart = 0.1 * 24
        assert abs(before) < 0.3 * apart
        distance = float(found['critic_distance'].detach())
        assert distance == pytest.approx(apart, rel=0.2)


class TestPenalty:
    def linear_critic(self, weights):
        critic = tiny_critic(in_channels=len(weights))
        conv = nn.Conv2d(len(weights), 1, 1)
        with torch.no_grad():
            conv.weight.copy_(torch.tensor(weights).view(1, -1, 1, 1))
        critic.layers = conv
        return critic

    @pytest.mark.parametrize('weights', [[0.5, -2.0], [0.01, 0.02], [0.06, 0.0]])
    def test_of_a_linear_critic(self, weights):
        """Every pixel has the gradient ``weights``: the norm is |weights| sqrt(HW)."""
        fake, real = two_maps(channels=2)
        critic = self.linear_critic(weights)
        found = critic(fake, real)
        norm = (24 * 26 * sum(w * w for w in weights)) ** 0.5
        assert float(found['critic_penalty'].detach()) == pytest.approx(
            (norm - 1) ** 2, rel=1e-4
        )
        found['critic_penalty'].backward()
        for weight, slope in zip(
            weights, critic.layers.weight.grad.flatten().tolist(), strict=True
        ):
            wanted = 2 * (norm - 1) * 24 * 26 * weight / norm
            assert slope == pytest.approx(wanted, rel=1e-4, abs=1e-6)

    def test_constant_scores_cost_1_and_have_a_finite_gradient(self):
        critic = self.linear_critic([0.0])
        found = critic(*two_maps())
        assert float(found['critic_penalty'].detach()) == pytest.approx(1, abs=1e-5)
        found['critic_loss'].backward()
        assert critic.layers.weight.grad.isfinite().all()

    @pytest.mark.parametrize('out_channels', [1, 2])
    def test_equals_finite_differences(self, out_channels):
        """Move every pixel alone and see how the sum of all scores changes."""
        fake, real = two_maps(size=(25, 24), dtype=torch.float64)
        critic = tiny_critic(out_channels=out_channels).double()
        mixed = random_point(fake, real, seed=5)
        step, terms = 1e-6, []
        with torch.no_grad():
            for one in mixed:
                moves = step * torch.eye(25 * 24, dtype=torch.float64)
                moves = moves.view(-1, 1, 25, 24)
                up, down = (
                    critic.score(one + sign * moves).sum((1, 2, 3)) for sign in (1, -1)
                )
                norm = float(((up - down) / (2 * step)).norm())
                terms.append((norm - 1) ** 2)
        assert abs(terms[0] - terms[1]) > 1e-5
        torch.manual_seed(5)
        found = float(critic(fake, real)['critic_penalty'].detach())
        assert found == pytest.approx(sum(terms) / 2, rel=1e-5)

    def test_gradient_of_the_weights_equals_finite_differences(self):
        fake, real = two_maps(dtype=torch.float64)
        critic = tiny_critic().double()

        def penalty():
            torch.manual_seed(5)
            return critic(fake, real)['critic_penalty']

        penalty().backward()
        for part in critic.layers:
            if isinstance(part, nn.Conv2d):
                direction = torch.randn_like(part.weight)
                slope = float((part.weight.grad * direction).sum())
                ends = []
                for sign in (1, -1):
                    with torch.no_grad():
                        part.weight += sign * 1e-6 * direction
                    ends.append(float(penalty().detach()))
                    with torch.no_grad():
                        part.weight -= sign * 1e-6 * direction
                assert abs(slope) > 1e-6
                assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4)

    def test_points_are_drawn_between_the_two_maps_for_each_sample(self, monkeypatch):
        fake, real = torch.zeros(64, 1, 24, 24), torch.ones(64, 1, 24, 24)
        critic, seen = tiny_critic(), []
        score = critic.score
        monkeypatch.setattr(critic, 'score', lambda x: seen.append(x) or score(x))
        critic(fake, real)
        assert torch.equal(seen[0], real)
        assert torch.equal(seen[1], fake)
        mixed = seen[2].detach()
        shares = mixed[:, 0, 0, 0]
        assert torch.equal(mixed, shares.view(-1, 1, 1, 1).expand_as(mixed))
        assert shares.unique().numel() == 64
        assert shares.min() < 0.1
        assert shares.max() > 0.9

    def test_works_where_gradients_are_off(self):
        with torch.no_grad():
            found = tiny_critic()(*two_maps())
        assert found['critic_penalty'] > 0
