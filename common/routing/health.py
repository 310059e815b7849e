"""Whether a model is fit to be called: failures, cooldown, probes and a budget of retries.

Each model has a circuit (Nygard, Release It!, 2007). Closed, calls pass. When too large a
share of its calls has failed within a window it opens: calls go elsewhere for the length
of a cooldown. Then it is half-open: exactly one call at a time passes as a probe; if that
succeeds the circuit closes, if it fails it opens for twice as long.

Three ways in which this goes wrong elsewhere, and what is done about each:

- a failure counts on every attempt, fallbacks included (BerriAI/litellm#32574);
- a later failure never shortens a cooldown under way (BerriAI/litellm#40130);
- a probe that ends without a verdict, as when its caller gives up, frees its place
  (BerriAI/litellm#39701).

Retries draw on a token bucket that first calls fill: so they stay a share of the requests
and cannot multiply the load on a model that is failing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from common.errors import SettingsError

__all__ = ["Admission", "Health", "HealthReport", "HealthRules"]

State = Literal["closed", "open", "half-open"]
_SLOTS = 10  # pieces in which the window moves on


@dataclass(frozen=True)
class HealthRules:
    """When a model is left alone, and for how long.

    Args:
        window_s: Seconds over which calls are counted.
        failures: Fewest failures in the window that open the circuit.
        failing_share: Smallest share of failed calls in the window that opens it.
        cooldown_s: Seconds until the first probe; twice as long after each that fails.
        longest_cooldown_s: Most seconds between probes.
        retry_share: Retries that a model may have for each first call.
        retry_reserve: Retries at hand before the first call, and the most ever at hand.
        hung_after_s: A call that runs into its deadline speaks against the model only
            after so many seconds of work; a short deadline is the caller's affair, and a
            long wait the queue's.

    Raises:
        SettingsError: A number is out of its range.
    """

    window_s: float = 60.0
    failures: int = 5
    failing_share: float = 0.5
    cooldown_s: float = 5.0
    longest_cooldown_s: float = 60.0
    retry_share: float = 0.1
    retry_reserve: float = 10.0
    hung_after_s: float = 30.0

    def __post_init__(self) -> None:
        usable = (
            self.window_s > 0
            and self.failures >= 1
            and 0 <= self.failing_share <= 1
            and 0 < self.cooldown_s <= self.longest_cooldown_s
            and 0 <= self.retry_share <= 1
            and self.retry_reserve >= 0
            and self.hung_after_s > 0
        )
        if not usable:
            raise SettingsError(
                "health rules",
                expected="positive times, shares of 0 to 1 and at least one failure",
                found=repr(self),
                remedy="Leave out what need not differ from the default.",
            )


@dataclass(frozen=True)
class HealthReport:
    """How one model stands.

    Args:
        state: Of its circuit.
        calls: Calls with a verdict in the window.
        failures: Failed ones among them.
        retries_left: Whole retries at hand.
        cooldown_left_s: Seconds until the next probe; 0 where the circuit is closed.
    """

    state: State
    calls: int
    failures: int
    retries_left: int
    cooldown_left_s: float


class Health:
    """Keeps the circuits and retry budgets of models; any number of threads may use it.

    Args:
        rules: When a model is left alone.
        clock: Seconds that only grow.
    """

    def __init__(
        self, rules: HealthRules | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rules = rules or HealthRules()
        self.clock = clock
        self._lock = threading.Lock()
        self._circuits: dict[str, _Circuit] = {}

    def admit(self, model: str, *, retry: bool = False) -> Admission | None:
        """Lets one call to the model pass, or returns None while it is left alone.

        Args:
            model: `ModelProfile.identity`.
            retry: Whether the same call has failed before; a first one adds to the budget.

        Returns:
            The admission, to be used as a context; its verdict is given inside the block.
        """
        with self._lock:
            circuit, now_s = self._circuit(model), self.clock()
            if circuit.open_until_s is None:
                if not retry:
                    earned = circuit.retries + self.rules.retry_share
                    circuit.retries = min(self.rules.retry_reserve, earned)
                return Admission(self, model, circuit.generation)
            if now_s < circuit.open_until_s or circuit.probing:
                return None
            circuit.probing = True
            circuit.generation += 1
            return Admission(self, model, circuit.generation)

    def why_not(self, model: str) -> tuple[str, float]:
        """Returns why a call was refused just now, as the end of a sentence, and for how long.

        The seconds are 0 where the cooldown or the probe has ended since.
        """
        with self._lock:
            circuit, now_s = self._circuit(model), self.clock()
            until_s, probing = circuit.open_until_s, circuit.probing
        if until_s is None:
            return "was being probed until now", 0.0
        if until_s > now_s:
            return f"cools down for {until_s - now_s:.1f} s more", until_s - now_s
        if probing:
            return "is being probed", self.rules.cooldown_s
        return "cooled down until now", 0.0

    def may_retry(self, model: str) -> bool:
        """Takes one retry from the model's budget, if one is left."""
        with self._lock:
            circuit = self._circuit(model)
            if circuit.retries < 1:
                return False
            circuit.retries -= 1
            return True

    def report(self, model: str) -> HealthReport:
        """Returns how the model stands; a model never called stands well."""
        with self._lock:
            circuit, now_s = self._circuit(model), self.clock()
            calls, failures = circuit.counts(now_s, self.rules.window_s)
            until_s = circuit.open_until_s
            left_s = 0.0 if until_s is None else max(0.0, until_s - now_s)
            state: State = "closed"
            if until_s is not None:
                state = "open" if left_s > 0 else "half-open"
            return HealthReport(state, calls, failures, int(circuit.retries), left_s)

    def record(self, admission: Admission, *, succeeded: bool | None) -> None:
        """Takes an admission's verdict; None where the call says nothing of the model."""
        with self._lock:
            circuit, now_s = self._circuit(admission.model), self.clock()
            probe = circuit.probing and admission.generation == circuit.generation
            if probe:
                circuit.probing = False
            if succeeded is None:
                return
            if circuit.open_until_s is None:
                circuit.count(now_s, self.rules.window_s, failed=not succeeded)
            if probe and succeeded:
                circuit.close()
            elif not succeeded:
                self._failed(circuit, now_s, probe=probe)

    def _failed(self, circuit: _Circuit, now_s: float, *, probe: bool) -> None:
        rules = self.rules
        if probe:
            circuit.open(now_s, min(2 * circuit.cooldown_s, rules.longest_cooldown_s))
        elif circuit.open_until_s is not None:  # begun before it opened, or before the probe
            circuit.open(now_s, circuit.cooldown_s)
        else:
            calls, failures = circuit.counts(now_s, rules.window_s)
            if failures >= rules.failures and failures >= rules.failing_share * calls:
                circuit.open(now_s, rules.cooldown_s)

    def _circuit(self, model: str) -> _Circuit:
        if model not in self._circuits:
            self._circuits[model] = _Circuit(self.rules.retry_reserve)
        return self._circuits[model]


class Admission:
    """Leave to call a model once; use as a context.

    The verdict is set inside the block. A block that ends without one says nothing of the
    model: the input was unusable, the queue full, the caller gone.

    Args:
        health: Who gave it.
        model: `ModelProfile.identity`.
        generation: Tells the present probe from calls that began earlier.
    """

    __slots__ = ("_health", "generation", "model", "verdict")

    def __init__(self, health: Health, model: str, generation: int) -> None:
        self._health = health
        self.model = model
        self.generation = generation
        self.verdict: bool | None = None

    def __enter__(self) -> Admission:
        return self

    def __exit__(self, *_: object) -> None:
        self._health.record(self, succeeded=self.verdict)


class _Circuit:
    """The state of one model; the lock of Health guards it."""

    def __init__(self, retries: float) -> None:
        self.retries = retries
        self.open_until_s: float | None = None
        self.cooldown_s = 0.0
        self.probing = False
        self.generation = 0
        self._slots: deque[list[int]] = deque(maxlen=_SLOTS)  # [number, calls, failures]

    def open(self, now_s: float, cooldown_s: float) -> None:
        until_s = now_s + cooldown_s
        self.open_until_s = max(until_s, self.open_until_s or until_s)
        self.cooldown_s = cooldown_s

    def close(self) -> None:
        self.open_until_s = None
        self._slots.clear()

    def count(self, now_s: float, window_s: float, *, failed: bool) -> None:
        number = int(now_s * _SLOTS / window_s)
        if not self._slots or self._slots[-1][0] != number:
            self._slots.append([number, 0, 0])
        self._slots[-1][1] += 1
        self._slots[-1][2] += failed

    def counts(self, now_s: float, window_s: float) -> tuple[int, int]:
        """Returns calls and failures of the window that ends now."""
        oldest = int(now_s * _SLOTS / window_s) - _SLOTS + 1
        live = [slot for slot in self._slots if slot[0] >= oldest]
        return sum(slot[1] for slot in live), sum(slot[2] for slot in live)
