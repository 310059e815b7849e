"""The kit's text model is the shipped adapter on the bundled base."""

from __future__ import annotations

import pytest

from common.errors import RoutingError
from common.routing.router import ModelRouter
from kits.finance.tasks import MAX_PASSAGE_TOKENS, open_router, text_model_of


def test_the_shipped_adapter_opens_behind_the_router():
    """Base, adapter and head fit, and the model takes the passages that it was trained on."""
    model = text_model_of(open_router(cache=None))
    assert (model.profile.name, model.profile.adapter) == ("minilm", "maec-lora")
    assert model.max_tokens == MAX_PASSAGE_TOKENS


def test_a_router_without_the_text_model_is_refused():
    """An encoder has no score."""
    with pytest.raises(RoutingError, match="text regressor"):
        text_model_of(ModelRouter({"text": "minilm"}))
