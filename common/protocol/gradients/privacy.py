"""Differential privacy: training whose result says little about any one record, or any one site.

A mechanism is (epsilon, delta)-private if, whichever one record is taken out of the data,
no set of results becomes more than e^epsilon times as likely, up to delta (Dwork and Roth
2014, definition 2.4). opacus, an extra of its own, does the work and the accounting.

- Per record (`PrivateTraining`): DP-SGD (Abadi et al. 2016, arXiv 1607.00133). Every record
  is drawn with probability q = 1 / ceil(n / batch_size); the gradient of each is clipped to
  norm C; Gaussian noise of standard deviation sigma C is added to their sum before each step.
- Per site (`SitePrivacy`): each site's whole update is clipped and noise is added to the
  mean by who aggregates, who is trusted (McMahan et al. 2017, arXiv 1710.06963).

What is private is what is trained: parameters. Losses that are printed, and numbers of
samples, are not. The noise comes from torch's generator, which is not of cryptographic
strength; opacus' secure mode needs a package that no current torch has. Neither it nor the
draw of the batches follows `torch.manual_seed`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common.errors import InputError, TuningError
from common.optional import require
from common.protocol.gradients.lora_update import Factors, LoraUpdate

__all__ = ["PrivacySettings", "PrivacySpent", "PrivateTraining", "SitePrivacy", "noise_for"]

_EXTRA = "privacy"
Accountant = Literal["prv", "rdp"]


@dataclass(frozen=True)
class PrivacySettings:
    """How much is clipped and how much noise is added.

    Args:
        noise_multiplier: sigma, noise relative to the clipping norm; `noise_for` finds it
            from an epsilon.
        max_grad_norm: C, the L2 norm that what one record (or site) contributes is cut to.
        delta: For which epsilon is reported; below 1 / n, since at 1 / n the release of
            one whole record would pass.
        accountant: "rdp" (Renyi divergence, Mironov et al. 2019, arXiv 1908.10530) or "prv"
            (numerical composition, Gopi et al. 2021, arXiv 2106.02848: a smaller epsilon,
            up to an error of 0.01).

    Raises:
        InputError: A number cannot be used.
    """

    noise_multiplier: float
    max_grad_norm: float = 1.0
    delta: float = 1e-5
    accountant: Accountant = "rdp"

    def __post_init__(self) -> None:
        sizes = (self.noise_multiplier, self.max_grad_norm)
        if not (all(math.isfinite(x) and x > 0 for x in sizes) and 0 < self.delta < 1):
            raise InputError(
                "privacy settings",
                expected="a noise multiplier and a norm above 0, and a delta between 0 and 1",
                found=f"{self.noise_multiplier}, {self.max_grad_norm} and {self.delta}",
                remedy="Find the noise for the epsilon that you want with noise_for().",
            )


@dataclass(frozen=True)
class PrivacySpent:
    """What the training so far gives away.

    Args:
        epsilon: With `delta`, an upper bound.
        delta: As set.
        steps: Noisy steps taken.
        sample_rate: With which each record (or site) took part in a step.
        noise_multiplier: sigma.
    """

    epsilon: float
    delta: float
    steps: int
    sample_rate: float
    noise_multiplier: float


class PrivateTraining:
    """DP-SGD on the trained parameters of a network; a context that leaves it as it was.

        with PrivateTraining(network, optimizer, n_samples=len(rows), batch_size=16,
                             settings=settings) as private:
            for indices in private.batches():
                private.step(indices, lambda: mean_loss(network, rows, indices))
        private.spent().epsilon

    Args:
        network: What is trained: LoRA on a frozen base, or any layers that opacus knows.
            It is put into training mode.
        optimizer: Of its trained parameters.
        n_samples: Records in the data, each one row of a batch.
        batch_size: Records per step on average, at most; the batches are Poisson draws.
        settings: Clipping, noise, delta.
        generator: Of the noise, on the network's device; one seeded by the system without
            it. Fixed seeds are for tests: who knows the seed can take the noise off again.

    Raises:
        MissingExtraError: opacus is not installed.
        InputError: The sizes cannot be used, or delta is 1 / n or more.
        TuningError: opacus cannot give each record's gradient in this network; it says why.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        n_samples: int,
        batch_size: int,
        settings: PrivacySettings,
        generator: torch.Generator | None = None,
    ) -> None:
        opacus = require("opacus", extra=_EXTRA)
        _require_sizes(n_samples, batch_size, settings)
        _require_supported(network)
        self._network, self._settings = network.train(), settings
        indices = torch.utils.data.TensorDataset(torch.arange(n_samples))
        loader: Any = torch.utils.data.DataLoader(
            indices,
            batch_size=batch_size,
            generator=_seeded(),  # who could foresee the batches would gain nothing from q
        )
        self._rate = 1 / len(loader)
        with warnings.catch_warnings():  # it advises the secure mode: see the module's text
            warnings.filterwarnings("ignore", "Secure RNG turned off")
            engine = opacus.PrivacyEngine(accountant=settings.accountant)
        try:
            self._hooks, self._optimizer, self._loader = engine.make_private(
                module=network,
                optimizer=optimizer,
                data_loader=loader,
                noise_multiplier=settings.noise_multiplier,
                max_grad_norm=settings.max_grad_norm,
                noise_generator=generator or _seeded(_device_of(network)),
                wrap_model=False,
            )
        except (ValueError, NotImplementedError) as error:
            raise _refused(f"{type(error).__name__} from opacus") from error
        self._accountant = engine.accountant

    def __enter__(self) -> PrivateTraining:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hooks.cleanup()

    def batches(self) -> Iterator[Tensor]:
        """Yields the indices of each batch of one pass; some may be empty, all of them count."""
        for (indices,) in self._loader:
            yield indices.long()

    def step(self, indices: Tensor, mean_loss: Callable[[], Tensor]) -> None:
        """Clips each record's gradient, adds noise and steps the optimizer.

        Args:
            indices: The batch, as `batches` gave it; each of its records is one row of
                what the network reads.
            mean_loss: Runs the network on them and returns the mean of their losses; not
                called for an empty batch, which takes its step with noise alone.

        Raises:
            TuningError: A parameter has no gradient for each record, or a loss or gradient
                is no number.
        """
        self._optimizer.zero_grad()
        trained = [p for p in self._network.parameters() if p.requires_grad]
        if len(indices):
            loss = mean_loss()
            if not bool(torch.isfinite(loss)):
                raise _refused("a loss that is no finite number")
            with warnings.catch_warnings():  # frozen inputs need no gradient, and hooks say so
                warnings.filterwarnings("ignore", "Full backward hook is firing")
                torch.autograd.backward(loss)
        else:
            for parameter in trained:
                parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))  # type: ignore[attr-defined]
        _require_per_record(trained, len(indices))
        self._optimizer.step()

    def spent(self) -> PrivacySpent:
        """Returns what the steps so far give away."""
        return _spent(self._accountant, self._settings, self._rate)


class SitePrivacy:
    """Central differential privacy over sites: a clipped, noisy mean of their updates.

    All sites train B alone on one A that they share (FFA-LoRA, Sun et al. 2024, arXiv
    2403.12313), from B = 0. The mean of products is then exactly the mean of B times A,
    and noise on B stays of rank r. Sites count alike, whatever their samples: a weight
    that depends on data would have to be hidden too.

    Args:
        settings: Clipping of a site's update over all layers, noise, delta.
        n_sites: Sites that take part in every round; the mean divides by it even if fewer
            came, so that absence gives nothing away.
        generator: Of the noise; one seeded by the system without it.

    Raises:
        MissingExtraError: opacus is not installed.
        InputError: There are no sites, or delta is 1 / n_sites or more.
    """

    def __init__(
        self, settings: PrivacySettings, *, n_sites: int, generator: torch.Generator | None = None
    ) -> None:
        accountants = require("opacus.accountants", extra=_EXTRA)
        _require_sizes(n_sites, n_sites, settings)
        self._settings, self._n_sites = settings, n_sites
        self._generator = generator or _seeded()
        self._accountant = accountants.create_accountant(mechanism=settings.accountant)

    def mean(self, updates: Sequence[LoraUpdate]) -> LoraUpdate:
        """Returns the private mean of one round's updates.

        Standard deviation of the noise on each number of B: sigma C / n_sites.

        Raises:
            InputError: There are none or too many, they hold heads, or differ in layers or A.
        """
        self._require_shared(updates)
        norm = self._settings.max_grad_norm
        sums = {x: torch.zeros_like(f.b, dtype=torch.double) for x, f in updates[0].layers.items()}
        for update in updates:
            size = math.sqrt(
                sum(float(f.b.double().square().sum()) for f in update.layers.values())
            )
            for layer, factors in update.layers.items():
                sums[layer] += factors.b.double() * min(1.0, norm / max(size, 1e-12))
        deviation = self._settings.noise_multiplier * norm
        for total in sums.values():
            noise = torch.randn(total.shape, generator=self._generator, dtype=torch.double)
            total.add_(noise, alpha=deviation).div_(self._n_sites)
        self._accountant.step(noise_multiplier=self._settings.noise_multiplier, sample_rate=1.0)
        return LoraUpdate(
            {layer: Factors(updates[0].layers[layer].a, b.float()) for layer, b in sums.items()}
        )

    def spent(self) -> PrivacySpent:
        """Returns what the rounds so far give away of any one site."""
        return _spent(self._accountant, self._settings, 1.0)

    def _require_shared(self, updates: Sequence[LoraUpdate]) -> None:
        expected = f"1 to {self._n_sites} updates of B alone, on one A that all sites share"
        if not 1 <= len(updates) <= self._n_sites or any(u.head for u in updates):
            raise _not_shared(expected, f"{len(updates)} updates, or trained heads")
        first = updates[0].layers
        for update in updates:
            same = set(update.layers) == set(first) and update.is_finite()
            if not same or any(
                not torch.equal(factors.a, first[layer].a)
                or factors.b.shape != first[layer].b.shape
                for layer, factors in update.layers.items()
            ):
                raise _not_shared(expected, "other layers or factors A, or values that are NaN")


def noise_for(
    epsilon: float,
    *,
    delta: float,
    sample_rate: float,
    steps: int,
    accountant: Accountant = "rdp",
) -> float:
    """Returns the noise multiplier with which `steps` steps stay within `epsilon`.

    Args:
        epsilon: The most that may be given away.
        delta: With this probability more.
        sample_rate: q, batch size over records; 1 for sites.
        steps: How many steps are taken in all.
        accountant: As in `PrivacySettings`.

    Raises:
        MissingExtraError: opacus is not installed.
        InputError: No noise reaches it.
    """
    utils = require("opacus.accountants.utils", extra=_EXTRA)
    try:
        if not (epsilon > 0 and 0 < delta < 1 and 0 < sample_rate <= 1 and steps >= 1):
            raise ValueError(epsilon)
        with warnings.catch_warnings():  # the search passes through noise of no interest
            warnings.filterwarnings("ignore", "Optimal order is the")
            noise: float = utils.get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=sample_rate,
                steps=steps,
                accountant=accountant,
            )
    except ValueError as error:
        raise InputError(
            "privacy budget",
            expected="an epsilon above 0 that some noise reaches, a delta and rate below 1",
            found=f"epsilon {epsilon}, delta {delta}, rate {sample_rate}, {steps} steps",
            remedy="Allow a larger epsilon, or take fewer steps.",
        ) from error
    return noise


def _device_of(network: nn.Module) -> torch.device:
    return next(p.device for p in network.parameters() if p.requires_grad)


def _seeded(device: torch.device | str = "cpu") -> torch.Generator:
    generator = torch.Generator(device)
    generator.seed()  # from the system's source, whatever torch.manual_seed() was given
    return generator


def _spent(accountant: Any, settings: PrivacySettings, rate: float) -> PrivacySpent:
    steps = sum(n for _, _, n in accountant.history)
    epsilon = float(accountant.get_epsilon(delta=settings.delta)) if steps else 0.0
    return PrivacySpent(epsilon, settings.delta, steps, rate, settings.noise_multiplier)


def _require_sizes(n_samples: int, batch_size: int, settings: PrivacySettings) -> None:
    if not 1 <= batch_size <= n_samples or settings.delta * n_samples >= 1:
        raise InputError(
            "private training",
            expected="batches of 1 to n, and a delta below 1 / n",
            found=f"n = {n_samples}, batches of {batch_size}, delta {settings.delta}",
            remedy="Choose a delta well below 1 / n: at 1 / n one record may be given away.",
        )


def _require_supported(network: nn.Module) -> None:
    """Refuses what gives no gradient for each record, before anything is changed."""
    samplers = require("opacus.grad_sample", extra=_EXTRA).GradSampleModule.GRAD_SAMPLERS
    trained = {
        type(module)
        for module in network.modules()
        if any(p.requires_grad for p in module.parameters(recurse=False))
    }
    unknown = sorted(kind.__name__ for kind in trained if kind not in samplers)
    if not trained:
        raise _refused("no trained parameter")
    if unknown:
        raise _refused(f"trained parameters in {', '.join(unknown)}")
    kinds = {type(module).__name__ for module in network.modules()}
    if "FusedLoRALinear" in kinds:
        raise _refused("fused LoRA layers, which do not call A and B one by one: unfuse_lora()")
    if any(getattr(m, "gradient_checkpointing", False) is True for m in network.modules()):
        raise _refused("gradient checkpointing, which runs every layer twice: switch it off")


def _require_per_record(trained: Sequence[Tensor], n_records: int) -> None:
    found = [getattr(parameter, "grad_sample", None) for parameter in trained]
    if any(not isinstance(x, Tensor) for x in found):
        raise _refused("a trained parameter that the loss does not depend on")
    if not all(bool(torch.isfinite(x).all()) for x in found if x is not None):
        raise _refused("a gradient that is no finite number, which no norm could cut")
    counts = {len(x) for x in found if x is not None}
    if counts - {n_records}:
        raise _refused(f"{sorted(counts)} rows in a batch of {n_records} records")


def _refused(found: str) -> TuningError:
    return TuningError(
        "private training",
        expected="a gradient for each record, from linear, convolution, embedding or norm layers "
        "(no batch norm) that are each called once, a record being one row",
        found=found,
        remedy="Train LoRA on a frozen base, one text or image per row.",
    )


def _not_shared(expected: str, found: str) -> InputError:
    return InputError(
        "updates of sites",
        expected=expected,
        found=found,
        remedy="Draw A from one seed on every site, train B from zero, and send no head.",
    )
