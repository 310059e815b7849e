"""Sites that never share data reach together what training on all of it reaches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from common.adapters.attach import attach_adapter, attach_new
from common.adapters.methods import Bottleneck, LoRA
from common.backbones import load_backbone
from common.errors import AdapterError
from common.protocol.gradients.aggregation import combined, stacked, truncated
from common.protocol.gradients.federated_round import accept_round
from common.protocol.gradients.lora_update import Factors, LoraUpdate, update_frame
from common.protocol.gradients.site_model import base_with, start_from, update_from
from tests.common.protocol.lora_sites import random_adapter, random_update
from tests.tiny_models import make_tiny

METHOD = LoRA(rank=2, targets="all-linear")
IDS = torch.tensor([[2, 5, 7, 6, 3]])
N_SAMPLES = {"north": 16, "south": 32}
ROUNDS = 10


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return load_backbone(make_tiny("bert", folder / "tiny", **still))


@pytest.fixture(scope="module")
def rows(base):
    """Token ids by site, from different halves of the vocabulary, and a teacher's states each."""
    drawn = torch.Generator().manual_seed(0)
    halves = {"north": (5, 12), "south": (12, 19)}
    ids = {
        site: torch.randint(*halves[site], (n, 6), generator=drawn) for site, n in N_SAMPLES.items()
    }
    targets = {site: _taught(base, x, seed) for seed, (site, x) in enumerate(ids.items(), 9)}
    return {site: (x, targets[site]) for site, x in ids.items()}


def _taught(base, ids, seed):
    """The states of a base with a random adapter."""
    teacher = attach_new(base, METHOD, seed=seed).backbone.model
    torch.manual_seed(seed)
    for name, parameter in teacher.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        return _states(teacher, ids)


class TestBase:
    """What was agreed on stands in a copy of the weights."""

    def test_the_copy_equals_the_base_with_the_adapter(self, base, tmp_path):
        random_adapter(base, tmp_path / "a", 1)
        adapter = attach_adapter(base, tmp_path / "a")
        kept = [parameter.clone() for parameter in base.model.parameters()]
        copied = base_with(base, update_from(adapter))
        with torch.inference_mode():
            expected = adapter.backbone.model(input_ids=IDS).last_hidden_state
            found = copied.model(input_ids=IDS).last_hidden_state
        assert torch.allclose(found, expected, atol=1e-5)
        assert copied.digest != base.digest
        for before, after in zip(kept, base.model.parameters(), strict=True):
            assert torch.equal(before, after)

    def test_weights_without_an_update_are_shared(self, base, tmp_path):
        copied = base_with(base, update_from(random_adapter(base, tmp_path / "a", 1)))
        shared = base.model.get_submodule("embeddings.word_embeddings").weight
        assert copied.model.get_submodule("embeddings.word_embeddings").weight is shared
        assert base_with(base, None) is base

    def test_a_layer_that_keeps_its_weight_transposed_is_refused(self, base):
        """GPT-2's: a square one would take the update the wrong way round."""
        transposed = replace(base, model=torch.nn.ModuleDict({"c": Conv1D(4, 4)}))
        update = LoraUpdate({"c": Factors(torch.ones(1, 4), torch.ones(4, 1))})
        with pytest.raises(AdapterError):
            base_with(transposed, update)

    def test_another_bases_update_is_refused(self, base):
        with pytest.raises(AdapterError):
            base_with(base, random_update(0))


class TestStart:
    """A LoRA that goes on from given factors."""

    @pytest.mark.parametrize("alpha", [2, 16])
    def test_it_holds_what_it_starts_from(self, base, tmp_path, alpha):
        method = LoRA(rank=2, alpha=alpha)
        update = update_from(random_adapter(base, tmp_path / "a", 1))
        started = update_from(start_from(base, method, update))
        for layer, factors in update.layers.items():
            assert torch.allclose(started.layers[layer].a, factors.a)
            assert torch.allclose(started.layers[layer].b, factors.b, atol=1e-6)

    @pytest.mark.parametrize("method", [LoRA(rank=3), LoRA(rank=2, targets="all-linear")])
    def test_another_rank_or_other_layers_are_refused(self, base, tmp_path, method):
        update = update_from(random_adapter(base, tmp_path / "a", 1))
        with pytest.raises(AdapterError):
            start_from(base, method, update)

    def test_only_lora_has_an_update(self, base):
        with pytest.raises(AdapterError):
            update_from(attach_new(base, Bottleneck(size=2)))


class TestRounds:
    """Two sites with different data, one task."""

    def test_one_step_at_each_site_averages_to_one_step_on_all_data(self, base, rows):
        """Plain descent: the averages of A and B are those of the pooled step, exactly."""
        start = update_from(attach_new(base, METHOD, seed=3))
        for factors in start.layers.values():
            torch.nn.init.normal_(factors.b, std=0.1)
        local = [_trained(base, start, [rows[site]], steps=1) for site in N_SAMPLES]
        accepted = _accepted(0, dict(zip(N_SAMPLES, local, strict=True)))
        pooled = _trained(base, start, [rows[site] for site in N_SAMPLES], steps=1)
        result = accepted.fedex_average()
        for layer, factors in pooled.layers.items():
            average = result.average.layers[layer]
            assert torch.allclose(average.a, factors.a, atol=1e-6)
            assert torch.allclose(average.b, factors.b, atol=1e-6)
        exact = stacked(local, n_samples=list(N_SAMPLES.values()))
        for layer, factors in exact.layers.items():
            whole = result.whole().layers[layer].product()
            assert torch.allclose(whole, factors.product(), atol=1e-6)

    def test_rounds_of_one_step_are_pooled_training(self, base, rows):
        """Stacked: a LoRA starts at B = 0, so its first step moves B alone, which adds up."""
        start = update_from(attach_new(base, METHOD, seed=3))
        together = _stacked_rounds(base, rows, start, steps=1)
        everybody = [rows[site] for site in N_SAMPLES]
        pooled = base
        for _ in range(ROUNDS):
            pooled = base_with(pooled, _trained(pooled, start, everybody, steps=1))
        federated = base_with(base, together)
        for one, other in zip(federated.model.parameters(), pooled.model.parameters(), strict=True):
            assert torch.allclose(one, other, atol=1e-5)
        assert _loss(federated, everybody) < 0.6 * _loss(base, everybody)

    @pytest.mark.parametrize("form", ["stacked", "fedex"])
    def test_rounds_of_several_steps_recover_both_sites_tasks(self, base, rows, form):
        """Each site has words and a teacher of its own: alone it knows nothing of the other."""
        everybody = [rows[site] for site in N_SAMPLES]
        start = update_from(attach_new(base, METHOD, seed=3))
        alone = _trained(base, start, [rows["north"]], steps=4 * ROUNDS)
        rounds = _stacked_rounds if form == "stacked" else _fedex_rounds
        together = base_with(base, rounds(base, rows, start, steps=4))
        loss = _loss(together, everybody)
        assert loss < 0.5 * _loss(base, everybody)
        assert loss < 0.5 * _loss(base_with(base, alone), everybody)


def _stacked_rounds(base, rows, start, *, steps):
    """Each round's stacked update joins what is agreed on, and a new LoRA starts at zero."""
    agreed = None
    for number in range(ROUNDS):
        here = base_with(base, agreed)
        local = {site: _trained(here, start, [rows[site]], steps=steps) for site in N_SAMPLES}
        mean = _accepted(number, local).stacked()
        agreed = mean if agreed is None else combined([agreed, mean])
        agreed = truncated(agreed, 16).update  # the width of the layers: nothing is lost
    return agreed


def _fedex_rounds(base, rows, start, *, steps):
    """The average goes on being trained, the residual joins what is frozen."""
    average, residual = start, None
    for number in range(ROUNDS):
        here = base_with(base, residual)
        local = {site: _trained(here, average, [rows[site]], steps=steps) for site in N_SAMPLES}
        result = _accepted(number, local).fedex_average()
        average = result.average
        residual = result.residual if residual is None else combined([residual, result.residual])
        residual = truncated(residual, 16).update
    return combined([average, residual])


def _accepted(number, updates):
    frames = [
        update_frame(update, round=number, site=site, n_samples=N_SAMPLES[site])
        for site, update in updates.items()
    ]
    return accept_round(frames, round=number, sites=N_SAMPLES)


def _trained(base, start, data, *, steps):
    """Plain gradient descent on the mean over all rows of `data`."""
    adapter = start_from(base, METHOD, start)
    model = adapter.backbone.model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        _mean_loss(model, data).backward()
        optimizer.step()
    return update_from(adapter)


def _mean_loss(model, data):
    ids, targets = (torch.cat(parts) for parts in zip(*data, strict=True))
    return torch.nn.functional.mse_loss(_states(model, ids), targets)


def _loss(base, data):
    with torch.no_grad():
        return float(_mean_loss(base.model, data))


def _states(model, ids):
    return model(input_ids=ids).last_hidden_state.mean(dim=1)
