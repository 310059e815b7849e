"""A round across sites takes effect with enough usable updates, or not at all."""

from __future__ import annotations

import pytest
import torch

from common.errors import ExchangeError, InputError
from common.protocol.gradients.federated_round import accept_round
from common.protocol.gradients.lora_update import update_frame
from common.protocol.messages.payloads import GradientFrame
from tests.common.protocol.lora_sites import N_SAMPLES, distance, random_update, weighted_mean

SITES = ("east", "north", "west")
UPDATES = tuple(random_update(seed) for seed in range(3))


def _frames(**changes):
    frames = {
        site: update_frame(update, round=4, site=site, n_samples=n)
        for site, update, n in zip(SITES, UPDATES, N_SAMPLES, strict=True)
    }
    return [frame for frame in (frames | changes).values() if frame is not None]


def _with_nan():
    update = random_update(1)
    update.layers["block.query"].b[0, 0] = float("nan")
    return update


def test_all_sites_count_by_their_samples():
    accepted = accept_round(_frames(), round=4, sites=SITES)
    assert (accepted.sites, accepted.n_samples, accepted.left_out) == (SITES, N_SAMPLES, {})
    mean = weighted_mean(UPDATES, N_SAMPLES)
    assert distance(accepted.stacked(), mean) < 1e-6
    assert distance(accepted.fedex_average().whole(), mean) < 1e-6


NOT_USABLE = {
    "absent": (None, "sent nothing"),
    "late": (update_frame(UPDATES[1], round=3, site="north", n_samples=30), "sent round 3"),
    "empty": (update_frame(UPDATES[1], round=4, site="north", n_samples=0), "has no samples"),
    "other": (GradientFrame(4, "north", 30, {}), "sent no LoRA update"),
    "unlike": (
        update_frame(random_update(1, head=True), round=4, site="north", n_samples=30),
        "sent other layers or shapes",
    ),
    "nan": (
        update_frame(_with_nan(), round=4, site="north", n_samples=30),
        "sent values that are no finite numbers",
    ),
}


@pytest.mark.parametrize(("frame", "reason"), NOT_USABLE.values(), ids=NOT_USABLE)
def test_a_site_that_cannot_count_rolls_the_round_back(frame, reason):
    with pytest.raises(ExchangeError) as caught:
        accept_round(_frames(north=frame), round=4, sites=SITES)
    assert caught.value.subject == "round 4 across sites"
    assert caught.value.found == f"2: north {reason}"


@pytest.mark.parametrize(("frame", "reason"), NOT_USABLE.values(), ids=NOT_USABLE)
def test_a_quorum_goes_on_without_it(frame, reason):
    accepted = accept_round(_frames(north=frame), round=4, sites=SITES, quorum=2)
    assert accepted.sites == ("east", "west")
    assert accepted.left_out == {"north": reason}
    mean = weighted_mean((UPDATES[0], UPDATES[2]), (10, 60))
    assert distance(accepted.stacked(), mean) < 1e-6


def test_too_few_for_a_quorum_roll_back():
    with pytest.raises(ExchangeError) as caught:
        accept_round(_frames(north=None, west=None), round=4, sites=SITES, quorum=2)
    assert caught.value.found == "1: north sent nothing; west sent nothing"


def test_the_trained_layers_may_be_given():
    """Otherwise most sites decide."""
    with pytest.raises(ExchangeError):
        accept_round(_frames(), round=4, sites=SITES, like=random_update(0, head=True))
    assert accept_round(_frames(), round=4, sites=SITES, like=UPDATES[0]).sites == SITES


def test_ranks_may_differ():
    wide = update_frame(random_update(1, ranks=(4, 2)), round=4, site="north", n_samples=30)
    accepted = accept_round(_frames(north=wide), round=4, sites=SITES)
    assert accepted.stacked().layers["block.query"].rank == 10


def test_a_stranger_or_a_second_frame_is_refused():
    stranger = update_frame(UPDATES[0], round=4, site="south", n_samples=1)
    for extra in (stranger, _frames()[0]):
        with pytest.raises(ExchangeError) as caught:
            accept_round([*_frames(), extra], round=4, sites=SITES, quorum=1)
        assert caught.value.subject == f"site {extra.site}"


@pytest.mark.parametrize("quorum", [0, 4])
def test_a_quorum_is_some_of_the_sites(quorum):
    with pytest.raises(InputError):
        accept_round(_frames(), round=4, sites=SITES, quorum=quorum)


def test_nothing_that_came_is_changed():
    before = [tensor.clone() for u in UPDATES for tensor in u.tensors().values()]
    accept_round(_frames(), round=4, sites=SITES).stacked()
    after = [tensor for u in UPDATES for tensor in u.tensors().values()]
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
