"""The mean of products is exact in every form; the product of means is another thing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError
from common.protocol.gradients.aggregation import combined, fedex_average, stacked, truncated
from common.protocol.gradients.lora_update import Factors, LoraUpdate
from tests.common.protocol.lora_sites import N_SAMPLES, distance, random_update, weighted_mean

UPDATES = tuple(random_update(seed, head=True) for seed in range(3))
MEAN = weighted_mean(UPDATES, N_SAMPLES)


class TestStacked:
    """Concatenated factors."""

    def test_it_is_the_weighted_mean_at_full_rank(self):
        update = stacked(UPDATES, n_samples=N_SAMPLES)
        assert distance(update, MEAN) < 1e-6
        assert update.rank == 9

    def test_ranks_may_differ(self):
        updates = [random_update(0, ranks=(1, 4)), random_update(1, ranks=(2, 2))]
        update = stacked(updates, n_samples=(1, 3))
        assert distance(update, weighted_mean(updates, (1, 3))) < 1e-6
        assert [factors.rank for factors in update.layers.values()] == [3, 6]

    def test_a_layer_that_a_site_does_not_adapt_counts_as_no_change(self):
        whole, partial = random_update(0), random_update(1)
        partial = LoraUpdate({"block.query": partial.layers["block.query"]})
        update = stacked([whole, partial], n_samples=(1, 1))
        value = whole.layers["block.value"].product()
        assert torch.allclose(update.layers["block.value"].product(), value / 2)

    def test_heads_are_averaged_by_samples(self):
        head = stacked(UPDATES, n_samples=N_SAMPLES).head
        shares = (0.1, 0.3, 0.6)
        expected = sum(w * u.head["weight"] for w, u in zip(shares, UPDATES, strict=True))
        assert torch.allclose(head["weight"], expected, atol=1e-6)


class TestFedEx:
    """Averages of the factors, and the residual (arXiv 2410.09432)."""

    def test_average_and_residual_are_the_weighted_mean(self):
        result = fedex_average(UPDATES, n_samples=N_SAMPLES)
        assert distance(result.whole(), MEAN) < 1e-6
        assert (result.average.rank, result.residual.rank) == (3, 6)

    def test_averaging_factors_alone_is_off(self):
        """The naive mean of A and of B: an error of the size of the update itself."""
        naive = fedex_average(UPDATES, n_samples=N_SAMPLES).average
        size = max(float(product.abs().max()) for product in MEAN.values())
        assert distance(naive, MEAN) > 0.3 * size

    def test_the_residual_is_mean_of_products_minus_product_of_means(self):
        result = fedex_average(UPDATES, n_samples=N_SAMPLES)
        for layer, product in MEAN.items():
            residual = product - result.average.layers[layer].product()
            assert torch.allclose(result.residual.layers[layer].product(), residual, atol=1e-6)

    def test_sites_that_agree_on_a_need_no_residual(self):
        """Freezing A is exact by itself (FFA-LoRA, arXiv 2403.12313)."""
        a = torch.randn(2, 6)
        updates = [LoraUpdate({"x": Factors(a, torch.randn(4, 2))}) for _ in range(3)]
        residual = fedex_average(updates, n_samples=N_SAMPLES).residual
        assert float(residual.layers["x"].product().abs().max()) < 1e-6

    def test_one_site_is_its_own_mean(self):
        result = fedex_average(UPDATES[:1], n_samples=(5,))
        assert distance(result.whole(), weighted_mean(UPDATES[:1], (5,))) < 1e-6

    def test_ranks_must_be_equal(self):
        with pytest.raises(InputError) as caught:
            fedex_average([random_update(0), random_update(1, ranks=(2, 2))], n_samples=(1, 1))
        assert "stacked()" in caught.value.remedy

    @settings(max_examples=40, deadline=None)
    @given(
        st.integers(1, 5),
        st.integers(1, 4),
        st.integers(0, 2**31),
        st.lists(st.integers(1, 10_000), min_size=5, max_size=5),
    )
    def test_both_forms_are_exact_for_any_sites(self, n_sites, rank, seed, samples):
        updates = [random_update(seed + i, ranks=(rank, rank)) for i in range(n_sites)]
        samples = samples[:n_sites]
        mean = weighted_mean(updates, samples)
        scale = 1 + max(float(product.abs().max()) for product in mean.values())
        assert distance(stacked(updates, n_samples=samples), mean) < 1e-6 * scale
        assert distance(fedex_average(updates, n_samples=samples).whole(), mean) < 1e-6 * scale


class TestCombined:
    """Updates side by side."""

    def test_rounds_add_up(self):
        first, second = UPDATES[:2]
        both = combined([first, second])
        for layer in both.layers:
            total = first.layers[layer].product() + second.layers[layer].product()
            assert torch.allclose(both.layers[layer].product(), total)
        assert torch.equal(both.head["bias"], second.head["bias"])

    def test_other_shapes_are_refused(self):
        other = LoraUpdate({"block.query": Factors(torch.zeros(1, 2), torch.zeros(3, 1))})
        with pytest.raises(InputError):
            combined([UPDATES[0], other])


class TestTruncated:
    """Singular values."""

    def test_nothing_is_lost_at_full_rank(self):
        update = stacked(UPDATES, n_samples=N_SAMPLES)
        cut = truncated(update, 7)
        assert distance(cut.update, MEAN) < 1e-6
        assert cut.error < 1e-6
        assert [factors.rank for factors in cut.update.layers.values()] == [5, 4]

    @pytest.mark.parametrize("rank", [1, 2, 3])
    def test_the_error_is_that_of_the_best_update_of_its_rank(self, rank):
        """Eckart-Young: the root of the squared singular values that are left out."""
        cut = truncated(stacked(UPDATES, n_samples=N_SAMPLES), rank)
        for layer, product in MEAN.items():
            values = torch.linalg.svdvals(product)
            best = float(torch.linalg.norm(values[rank:]) / torch.linalg.norm(values))
            assert cut.errors[layer] == pytest.approx(best, rel=1e-5)
            lost = torch.linalg.norm(product - cut.update.layers[layer].product())
            assert float(lost / torch.linalg.norm(product)) == pytest.approx(best, rel=1e-5)

    def test_an_update_of_zero_has_no_error(self):
        zero = LoraUpdate({"x": Factors(torch.zeros(2, 3), torch.zeros(4, 2))})
        assert truncated(zero, 1).error == 0.0

    def test_a_rank_of_0_is_refused(self):
        with pytest.raises(InputError):
            truncated(UPDATES[0], 0)


@pytest.mark.parametrize("samples", [(), (1, 2), (1, 0, 2)])
def test_every_update_has_samples(samples):
    with pytest.raises(InputError):
        stacked(UPDATES, n_samples=samples)


def test_heads_of_other_outputs_are_refused():
    with pytest.raises(InputError) as caught:
        stacked([UPDATES[0], random_update(5)], n_samples=(1, 1))
    assert caught.value.subject == "heads"
