"""Differential privacy: clipped, noisy, accounted for; refused where it could not hold."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from common.adapters.attach import attach_new, save_adapter
from common.adapters.lora import fuse_lora, unfuse_lora
from common.adapters.methods import Bottleneck, LoRA, Prefix
from common.backbones import load_backbone
from common.errors import InputError, MissingExtraError, TuningError
from common.protocol.gradients.lora_update import Factors, LoraUpdate
from common.protocol.gradients.privacy import (
    PrivacySettings,
    PrivateTraining,
    SitePrivacy,
    noise_for,
)
from tests.common.protocol.lora_sites import random_update
from tests.tiny_models import make_tiny

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[4]
N = 12
IDS = torch.randint(5, 19, (N, 6), generator=torch.Generator().manual_seed(0))
TARGETS = torch.randn(N, 16, generator=torch.Generator().manual_seed(1))
FAINT = PrivacySettings(noise_multiplier=1e-9, max_grad_norm=100.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return load_backbone(make_tiny("bert", folder / "tiny", **still))


@pytest.fixture
def adapter(base):
    return attach_new(base, LoRA(rank=2), seed=1)


class TestTraining:
    """DP-SGD on LoRA's parameters."""

    def test_without_noise_and_clipping_it_is_plain_descent(self, base, adapter):
        plain = attach_new(base, LoRA(rank=2), seed=1).backbone.model
        model = adapter.backbone.model
        private = _private(model, FAINT, batch_size=N)
        everything = torch.arange(N)
        optimizer = _optimizer(plain)
        for _ in range(3):
            private.step(everything, lambda: _loss(model, everything))
            optimizer.zero_grad()
            _loss(plain, everything).backward()
            optimizer.step()
        for one, other in zip(_trained(model), _trained(plain), strict=True):
            assert torch.allclose(one, other, atol=1e-5)

    def test_no_record_moves_the_parameters_further_than_the_norm(self, adapter):
        """One wild record among 12: the step is at most rate x C, and C / 12 for it alone."""
        model = adapter.backbone.model
        before = [p.clone() for p in _trained(model)]
        settings = PrivacySettings(noise_multiplier=1e-9, max_grad_norm=0.01)
        private = _private(model, settings, batch_size=N)
        targets = TARGETS.clone()
        targets[3] *= 1e6
        everything = torch.arange(N)
        private.step(everything, lambda: _loss(model, everything, targets))
        moved = [p - x for p, x in zip(_trained(model), before, strict=True)]
        assert (
            0
            < math.sqrt(sum(float(x.detach().square().sum()) for x in moved))
            <= 0.1 * 0.01 * 1.001
        )

    def test_noise_is_that_of_the_settings(self, adapter):
        """Without a gradient a step is noise of deviation sigma C / batch size, times the rate."""
        model = adapter.backbone.model
        before = torch.cat([p.detach().reshape(-1) for p in _trained(model)])
        settings = PrivacySettings(noise_multiplier=3.0, max_grad_norm=2.0)
        private = _private(model, settings, batch_size=4, seed=0)
        private.step(torch.arange(0), lambda: pytest.fail("an empty batch has no loss"))
        moved = torch.cat([p.detach().reshape(-1) for p in _trained(model)]) - before
        assert float(moved.std()) == pytest.approx(0.1 * 3.0 * 2.0 / 4, rel=0.15)

    def test_batches_are_drawn_and_their_steps_accounted_for(self, adapter):
        from opacus.accountants import RDPAccountant

        model = adapter.backbone.model
        settings = PrivacySettings(noise_multiplier=1.2, delta=1e-3)
        private = _private(model, settings, batch_size=4)
        assert private.spent().epsilon == 0.0
        sizes = []
        for _ in range(10):
            for indices in private.batches():
                sizes.append(len(indices))
                private.step(indices, lambda: _loss(model, indices))  # noqa: B023  # called at once
        spent = private.spent()
        expected = RDPAccountant()
        expected.history = [(1.2, 1 / 3, 30)]
        assert spent.epsilon == pytest.approx(expected.get_epsilon(delta=1e-3))
        assert (spent.steps, spent.sample_rate, spent.delta) == (30, 1 / 3, 1e-3)
        assert len(set(sizes)) > 1

    def test_it_leaves_the_network_as_it_was(self, base, adapter, tmp_path):
        model = adapter.backbone.model
        with _private(model, FAINT, batch_size=4) as private:
            private.step(torch.arange(4), lambda: _loss(model, torch.arange(4)))
        copy.deepcopy(model)
        save_adapter(adapter, tmp_path / "private")
        _loss(model, torch.arange(4)).backward()
        assert not any(hasattr(p, "grad_sample") for p in model.parameters())

    def test_noise_does_not_follow_the_global_seed(self, base):
        outcomes = []
        for _ in range(2):
            torch.manual_seed(0)
            model = attach_new(base, LoRA(rank=2), seed=1).backbone.model
            settings = PrivacySettings(noise_multiplier=1.0)
            private = PrivateTraining(
                model, _optimizer(model), n_samples=N, batch_size=4, settings=settings
            )
            private.step(torch.arange(0), lambda: torch.zeros(()))
            outcomes.append(next(iter(_trained(model))).detach().clone())
        assert not torch.equal(*outcomes)

    def test_batches_do_not_follow_the_global_seed(self):
        """The accountant counts on draws that nobody can foresee."""
        draws = []
        for _ in range(2):
            torch.manual_seed(0)
            private = _private(torch.nn.Linear(2, 1), FAINT)
            draws.append([i.tolist() for _ in range(10) for i in private.batches()])
        assert draws[0] != draws[1]


class TestRefusals:
    """What has no gradient for each record is refused before a step."""

    def test_batch_norm_mixes_records(self):
        network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        with pytest.raises(TuningError) as caught:
            _private(network, FAINT)
        assert caught.value.found == "trained parameters in BatchNorm1d"

    def test_parameters_outside_known_layers(self, base):
        model = attach_new(base, Prefix(3, zero_gate=True)).backbone.model
        with pytest.raises(TuningError) as caught:
            _private(model, FAINT)
        assert "GatedPrefix" in caught.value.found

    def test_fused_layers_until_they_are_unfused(self, adapter):
        fuse_lora(adapter.backbone.model)
        with pytest.raises(TuningError) as caught:
            _private(adapter.backbone.model, FAINT)
        assert "unfuse_lora()" in caught.value.found
        unfuse_lora(adapter.backbone.model)
        _private(adapter.backbone.model, FAINT)

    def test_gradient_checkpointing(self, adapter):
        model = adapter.backbone.model
        model.activation_checkpointing_enable()
        with pytest.raises(TuningError) as caught:
            _private(model, FAINT)
        assert "checkpointing" in caught.value.found

    def test_a_frozen_network(self, base):
        with pytest.raises(TuningError) as caught:
            PrivateTraining(
                base.model,
                _optimizer(torch.nn.Linear(1, 1)),
                n_samples=N,
                batch_size=4,
                settings=FAINT,
            )
        assert caught.value.found == "no trained parameter"

    def test_a_record_that_is_several_rows(self, adapter):
        """Chunks of one long text would be clipped one by one: the promise is for records."""
        model = adapter.backbone.model
        private = _private(model, FAINT)
        before = [p.clone() for p in _trained(model)]
        with pytest.raises(TuningError) as caught:
            private.step(torch.arange(2), lambda: _loss(model, torch.arange(4)))
        assert caught.value.found == "[4] rows in a batch of 2 records"
        for one, other in zip(_trained(model), before, strict=True):
            assert torch.equal(one, other)

    def test_a_parameter_that_the_loss_does_not_reach(self):
        network = torch.nn.ModuleList([torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)])
        private = _private(network, FAINT)
        with pytest.raises(TuningError) as caught:
            private.step(torch.arange(2), lambda: network[0](torch.ones(2, 2)).mean())
        assert "does not depend on" in caught.value.found

    def test_a_loss_that_is_no_number(self, adapter):
        private = _private(adapter.backbone.model, FAINT)
        with pytest.raises(TuningError):
            private.step(torch.arange(1), lambda: torch.tensor(float("nan")))

    def test_a_gradient_that_is_no_number(self):
        """The loss is 0, the slope of its root is not."""
        network = torch.nn.Linear(2, 1)
        before = [p.detach().clone() for p in network.parameters()]
        private = _private(network, FAINT)
        with pytest.raises(TuningError) as caught:
            private.step(torch.arange(2), lambda: (0 * network(torch.ones(2, 2))).sqrt().mean())
        assert "no finite number" in caught.value.found
        assert all(map(torch.equal, network.parameters(), before))
        assert private.spent().steps == 0

    @pytest.mark.parametrize(("n", "size", "delta"), [(12, 13, 1e-5), (12, 0, 1e-5), (12, 4, 0.1)])
    def test_sizes_that_promise_nothing(self, adapter, n, size, delta):
        settings = PrivacySettings(noise_multiplier=1.0, delta=delta)
        model = adapter.backbone.model
        with pytest.raises(InputError):
            PrivateTraining(
                model, _optimizer(model), n_samples=n, batch_size=size, settings=settings
            )

    @pytest.mark.parametrize(("noise", "norm", "delta"), [(0, 1, 0.1), (1, 0, 0.1), (1, 1, 1)])
    def test_settings_that_promise_nothing(self, noise, norm, delta):
        with pytest.raises(InputError):
            PrivacySettings(noise, norm, delta)

    def test_a_bottleneck_is_linear_layers_and_may_be_trained(self, base):
        model = attach_new(base, Bottleneck(size=2)).backbone.model
        private = _private(model, FAINT)
        private.step(torch.arange(2), lambda: _loss(model, torch.arange(2)))
        assert private.spent().steps == 1


class TestSites:
    """Central privacy: one site more or less changes little."""

    def test_the_faint_mean_is_the_mean(self):
        updates = _sharing_a(4)
        mean = SitePrivacy(FAINT, n_sites=4).mean(updates)
        for layer, factors in mean.layers.items():
            expected = sum(u.layers[layer].product() for u in updates) / 4
            assert torch.allclose(factors.product(), expected, atol=1e-5)

    def test_a_large_update_is_cut_to_the_norm_over_all_layers(self):
        settings = PrivacySettings(noise_multiplier=1e-9, max_grad_norm=0.5)
        mean = SitePrivacy(settings, n_sites=1).mean(_sharing_a(1))
        size = math.sqrt(sum(float(f.b.square().sum()) for f in mean.layers.values()))
        assert size == pytest.approx(0.5, rel=1e-5)

    def test_noise_is_divided_by_the_sites_that_take_part(self):
        """Also where fewer came."""
        zero = LoraUpdate({"x": Factors(torch.ones(2, 500), torch.zeros(500, 2))})
        settings = PrivacySettings(noise_multiplier=3.0, max_grad_norm=2.0)
        generator = torch.Generator().manual_seed(0)
        mean = SitePrivacy(settings, n_sites=4, generator=generator).mean([zero])
        assert float(mean.layers["x"].b.std()) == pytest.approx(3.0 * 2.0 / 4, rel=0.1)

    @pytest.mark.parametrize(("accountant", "above"), [("rdp", 0.25), ("prv", 0.02)])
    def test_epsilon_bounds_the_exact_one(self, accountant, above):
        """Without sampling T rounds are one Gaussian mechanism of mu = sqrt(T) / sigma.

        Its exact curve is that of Balle and Wang 2018, arXiv 1805.06530, theorem 8.
        """
        settings = PrivacySettings(noise_multiplier=5.0, delta=1e-4, accountant=accountant)
        private = SitePrivacy(settings, n_sites=2)
        for _ in range(10):
            private.mean(_sharing_a(2))
        spent = private.spent()
        exact = _exact_epsilon(mu=math.sqrt(10) / 5.0, delta=1e-4)
        assert exact <= spent.epsilon <= exact * (1 + above)
        assert (spent.steps, spent.sample_rate) == (10, 1.0)

    @pytest.mark.parametrize(
        "updates",
        [
            (),
            tuple(random_update(seed) for seed in range(2)),
            tuple(random_update(0) for _ in range(5)),
            (random_update(0, head=True),),
            (random_update(0), random_update(0, ranks=(3, 2))),
        ],
        ids=["none", "other A", "too many", "heads", "other ranks"],
    )
    def test_updates_that_share_no_a_are_refused(self, updates):
        with pytest.raises(InputError):
            SitePrivacy(FAINT, n_sites=4).mean(updates)


class TestNoiseFor:
    """From an epsilon to the noise."""

    def test_the_noise_stays_within_the_budget(self):
        noise = noise_for(3.0, delta=1e-5, sample_rate=0.05, steps=200)
        from opacus.accountants import RDPAccountant

        accountant = RDPAccountant()
        accountant.history = [(noise, 0.05, 200)]
        assert 2.9 < accountant.get_epsilon(delta=1e-5) <= 3.0

    @pytest.mark.parametrize("epsilon", [0.0, -1.0, 1e-9])
    def test_a_budget_of_nothing_is_refused(self, epsilon):
        with pytest.raises(InputError):
            noise_for(epsilon, delta=1e-5, sample_rate=1.0, steps=1)


class TestPackage:
    """opacus is an extra, and brings a package named as one of ours."""

    def test_without_it_the_extra_is_named(self, adapter, monkeypatch):
        monkeypatch.setitem(sys.modules, "opacus", None)
        monkeypatch.setitem(sys.modules, "opacus.accountants", None)
        with pytest.raises(MissingExtraError) as caught:
            _private(adapter.backbone.model, FAINT)
        assert "tandem-kits[privacy]" in caught.value.remedy
        with pytest.raises(MissingExtraError):
            SitePrivacy(FAINT, n_sites=4)

    @pytest.mark.parametrize(
        "program",
        ["import benchmarks", "import opacus, benchmarks"],
    )
    def test_benchmarks_is_ours_in_the_checkout(self, program):
        done = subprocess.run(
            [sys.executable, "-c", f"{program}; print(benchmarks.__path__[0])"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert Path(done.stdout.strip()) == ROOT / "benchmarks"

    def test_benchmarks_is_ours_here(self):
        import benchmarks

        assert Path(benchmarks.__path__[0]) == ROOT / "benchmarks"


def _private(model, settings, *, batch_size=4, seed=None):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return PrivateTraining(
        model,
        _optimizer(model),
        n_samples=N,
        batch_size=batch_size,
        settings=settings,
        generator=generator,
    )


def _trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _optimizer(model):
    return torch.optim.SGD(_trained(model), lr=0.1)


def _loss(model, indices, targets=TARGETS):
    states = model(input_ids=IDS[indices]).last_hidden_state.mean(dim=1)
    return torch.nn.functional.mse_loss(states, targets[indices])


def _sharing_a(n_sites):
    shared = random_update(0).layers
    return [
        LoraUpdate({x: Factors(shared[x].a, f.b) for x, f in random_update(seed).layers.items()})
        for seed in range(n_sites)
    ]


def _exact_epsilon(*, mu, delta):
    def normal(x):
        return 0.5 * (1 + math.erf(x / math.sqrt(2)))

    low, high = 0.0, 50.0
    for _ in range(100):
        epsilon = (low + high) / 2
        found = normal(mu / 2 - epsilon / mu) - math.exp(epsilon) * normal(-mu / 2 - epsilon / mu)
        low, high = (epsilon, high) if found > delta else (low, epsilon)
    return high
