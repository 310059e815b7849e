"""One round across sites: who has sent a usable update, and whether they are enough.

Every site trains on its own data and sends one frame. The round takes effect with the
frames that can be used, or not at all: then the sites go on from the update of the round
before, which nothing here has touched. Aggregating is a function of what was accepted
(`common.protocol.gradients.aggregation`), so that a round can be tried again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from common.errors import ExchangeError, InputError, MessageError
from common.protocol.gradients.aggregation import FedExAverage, fedex_average, stacked
from common.protocol.gradients.lora_update import LoraUpdate, update_of
from common.protocol.messages.payloads import GradientFrame

__all__ = ["FederatedRound", "accept_round"]


@dataclass(frozen=True, eq=False)
class FederatedRound:
    """What was accepted of one round.

    Args:
        round: Its number.
        sites: The sites whose updates count, sorted.
        updates: Theirs, in the same order.
        n_samples: Theirs; the weights of the mean.
        left_out: Every other site with the reason why its update does not count.
    """

    round: int
    sites: tuple[str, ...]
    updates: tuple[LoraUpdate, ...]
    n_samples: tuple[int, ...]
    left_out: Mapping[str, str]

    def stacked(self) -> LoraUpdate:
        """Returns the exact mean at the sum of the ranks."""
        return stacked(self.updates, n_samples=self.n_samples)

    def fedex_average(self) -> FedExAverage:
        """Returns the averages of the factors and the exact residual."""
        return fedex_average(self.updates, n_samples=self.n_samples)


def accept_round(
    frames: Iterable[GradientFrame],
    *,
    round: int,  # noqa: A002  # the frame's own word
    sites: Iterable[str],
    quorum: int | None = None,
    like: LoraUpdate | None = None,
) -> FederatedRound:
    """Returns the usable updates of a round, or rolls it back.

    A site does not count whose frame is absent, of another round, without samples, not an
    update of the same layers, or holds a value that is no finite number.

    Args:
        frames: What came, at most one of each site.
        round: The round that they must be of.
        sites: All that take part.
        quorum: How many must count; all of them without it.
        like: An update of the layers and shapes that are trained; those of most sites
            without it.

    Raises:
        InputError: The quorum is none that these sites can reach.
        ExchangeError: A frame is of no site that takes part, two are of one, or fewer
            count than the quorum; it says which sites do not, and why. Nothing was changed.
    """
    expected = sorted(set(sites))
    needed = len(expected) if quorum is None else quorum
    if not 1 <= needed <= len(expected):
        raise InputError(
            "quorum",
            expected=f"1 to {len(expected)}, the sites that take part",
            found=str(needed),
            remedy="Name the sites, and how many of them must count.",
        )
    received = _by_site(frames, expected)
    updates, left_out = _usable(received, round)
    left_out |= {site: "sent nothing" for site in expected if site not in received}
    left_out |= _unlike(updates, like)
    counted = tuple(site for site in sorted(updates) if site not in left_out)
    if len(counted) < needed:
        raise _rolled_back(round, left_out, needed=needed, n_sites=len(expected))
    return FederatedRound(
        round,
        counted,
        tuple(updates[site] for site in counted),
        tuple(received[site].n_samples for site in counted),
        dict(sorted(left_out.items())),
    )


def _by_site(frames: Iterable[GradientFrame], expected: list[str]) -> dict[str, GradientFrame]:
    received: dict[str, GradientFrame] = {}
    for frame in frames:
        if frame.site not in expected or frame.site in received:
            which = "a second frame" if frame.site in received else "a frame"
            raise ExchangeError(
                f"site {frame.site}",
                expected=f"one frame each of {', '.join(expected)}",
                found=f"{which} of {frame.site}",
                remedy="Find out who sends under this name before the round is tried again.",
            )
        received[frame.site] = frame
    return received


def _usable(
    received: Mapping[str, GradientFrame], number: int
) -> tuple[dict[str, LoraUpdate], dict[str, str]]:
    """Returns the updates that can be read, and why each of the others cannot."""
    updates: dict[str, LoraUpdate] = {}
    left_out: dict[str, str] = {}
    for site, frame in received.items():
        if frame.round != number:
            left_out[site] = f"sent round {frame.round}"
        elif frame.n_samples < 1:
            left_out[site] = "has no samples"
        else:
            try:
                updates[site] = update_of(frame)
            except MessageError:
                left_out[site] = "sent no LoRA update"
                continue
            if not updates[site].is_finite():
                left_out[site] = "sent values that are no finite numbers"
    return updates, left_out


def _unlike(updates: Mapping[str, LoraUpdate], like: LoraUpdate | None) -> dict[str, str]:
    """Returns the sites that train other layers than `like`, or than most do."""
    kinds = {site: _kind(update) for site, update in updates.items()}
    ordered = [kinds[site] for site in sorted(kinds)]
    usual = _kind(like) if like is not None else max(ordered, key=ordered.count, default=None)
    return {site: "sent other layers or shapes" for site, kind in kinds.items() if kind != usual}


def _kind(update: LoraUpdate) -> tuple[object, ...]:
    """Returns layers and shapes, ranks apart, which may differ."""
    layers = tuple((layer, factors.shape) for layer, factors in update.layers.items())
    return layers, tuple((name, tuple(x.shape)) for name, x in sorted(update.head.items()))


def _rolled_back(
    number: int, left_out: Mapping[str, str], *, needed: int, n_sites: int
) -> ExchangeError:
    reasons = "; ".join(f"{site} {reason}" for site, reason in sorted(left_out.items()))
    return ExchangeError(
        f"round {number} across sites",
        expected=f"usable updates from {needed} of {n_sites} sites",
        found=f"{n_sites - len(left_out)}: {reasons}",
        remedy="Nothing was changed: let these sites send again, or allow a smaller quorum.",
    )
