"""Tensors in gradient frames: torch's on one side, the arrays of a `GradientFrame` on the other.

bfloat16, which numpy has not, travels as `ml_dtypes.bfloat16`; no bit is changed.
"""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from common.errors import MessageError
from common.protocol.messages.payloads import GradientFrame
from common.task import Array

__all__ = ["array_of", "frame_of", "tensor_of", "tensors_of"]

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def frame_of(
    tensors: Mapping[str, Tensor],
    *,
    round: int,  # noqa: A002  # the frame's own word
    site: str,
    n_samples: int,
) -> GradientFrame:
    """Returns `tensors` as one frame.

    Args:
        tensors: Gradients or updates by name, on any device.
        round: Number of the round, from 0.
        site: Which site sends it.
        n_samples: How many samples they come from.
    """
    arrays = {name: array_of(tensor) for name, tensor in tensors.items()}
    return GradientFrame(round=round, site=site, n_samples=n_samples, tensors=arrays)


def tensors_of(frame: GradientFrame) -> dict[str, Tensor]:
    """Returns a frame's tensors by name, on the CPU, in memory of their own.

    Raises:
        MessageError: One is of a type that torch has not.
    """
    return {name: tensor_of(array) for name, array in frame.tensors.items()}


def array_of(tensor: Tensor) -> Array:
    """Returns a copy of `tensor` as an array of the same type, shape and bits."""
    plain = tensor.detach().to("cpu", copy=True).contiguous()
    if plain.dtype is torch.bfloat16:
        array: Array = plain.view(torch.int16).numpy().view(_BFLOAT16)
        return array
    return plain.numpy()


def tensor_of(array: Array) -> Tensor:
    """Returns a copy of `array` as a tensor of the same type, shape and bits.

    Raises:
        MessageError: torch has no such type.
    """
    copied = np.array(array, order="C", copy=True)
    if copied.dtype == _BFLOAT16:
        return torch.from_numpy(copied.view(np.int16)).view(torch.bfloat16)
    try:
        return torch.from_numpy(copied)
    except TypeError as error:
        raise MessageError(
            "gradient frame",
            expected="tensors of numbers",
            found=f"one of {copied.dtype}",
            remedy="Send float32, bfloat16 or another type that torch has.",
        ) from error
