"""One adapter of a bank behind the Model face."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.models.base import ModelProfile, only_part
from common.task import Result, Task, Text, digest_of

if TYPE_CHECKING:
    from common.adapters.bank import AdapterBank
    from common.backbones import Backbone

__all__ = ["BankedText"]


class BankedText:
    """The texts of one adapter, answered by the bank that also serves the others.

    The adapter is loaded into the bank under its name, or again where it is there already:
    the profile names the digest of the files that were read now.

    Args:
        bank: The bank.
        backbone: The base that the bank was made with.
        name: The adapter's name in the bank.
        folder: The adapter's folder, as `save_adapter` writes it.

    Raises:
        AdapterError: The folder cannot be loaded.
    """

    def __init__(self, bank: AdapterBank, backbone: Backbone, name: str, folder: Path) -> None:
        self._bank = bank
        self._name = name
        self.profile = ModelProfile(
            name=backbone.name,
            modality="text",
            digest=digest_of(backbone.digest.encode(), b"banked"),
            adapter=name,
            adapter_digest=bank.load(name, folder),
        )

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        """Returns for each text what `AdapterBank.predict` describes.

        Raises:
            TaskError: A task has not exactly one text, or it is empty or too long.
            AdapterError: The adapter was taken out of the bank.
        """
        texts = [only_part(task, Text).text for task in tasks]
        return self._bank.predict(texts, [self._name] * len(texts))

    def close(self) -> None:
        """Takes the adapter out of the bank; requests under way finish with it."""
        self._bank.unload(self._name)
