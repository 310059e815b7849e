"""The policy explains what it chose and what it rejected."""

from __future__ import annotations

import pytest

from common.errors import RoutingError
from common.models.base import ModelProfile
from common.routing.policy import choose


class Silent:
    def __init__(self, name: str, modality: str) -> None:
        self.profile = ModelProfile(name=name, modality=modality, digest="0")

    def predict(self, tasks):
        raise AssertionError


def test_models_of_the_modality_keep_their_order() -> None:
    first, second, other = Silent("a", "text"), Silent("b", "text"), Silent("c", "image")
    candidates = choose("text", "text", [first, other, second])
    assert candidates.models == (first, second)
    assert candidates.reason == "a is the first of 2 models that take text"
    assert candidates.rejected == ("c takes image, not text",)


def test_no_model_is_an_error_that_lists_the_rejected() -> None:
    with pytest.raises(RoutingError, match="c takes image, not text"):
        choose("text", "text", [Silent("c", "image")])
    with pytest.raises(RoutingError, match="no model for this part"):
        choose("text", "text", [])
