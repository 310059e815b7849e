"""Styles of mask for one crop: the readers' own, and imitations of a threshold's.

At run time a lesion's mask comes from a threshold, not from readers. Training draws from all
styles, so that the score depends little on how the edge was drawn; the shift that remains is
measured with `threshold_mask` in place of `reader_mask`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["mask_styles", "reader_mask", "threshold_mask"]

Mask = npt.NDArray[np.bool_]
Pixels8 = npt.NDArray[np.uint8]

# Lung between the lesion's edge and this many pixels beyond it sets the dark end.
RING_PIXELS = 8
# A threshold may go this far beyond the readers' edge; candidates end at the lung's edge.
MARGIN_PIXELS = 2


def reader_mask(readers: Pixels8) -> Mask:
    """Returns the pixels that at least two readers marked, or any reader where none agree."""
    agreed = readers >= 2
    return agreed if agreed.any() else readers >= 1


def threshold_mask(image: Pixels8, readers: Pixels8) -> Mask:
    """Returns what a threshold half-way between lung and lesion finds at the readers' place.

    Half-way between lung (about -850 HU) and soft tissue (about 40 HU) lies -400 HU, the
    threshold of `kits.medical.imaging.candidates`. Falls back to the readers' mask where
    nothing exceeds the threshold.
    """
    core, any_reader = reader_mask(readers), readers >= 1
    ring = ndimage.binary_dilation(any_reader, iterations=RING_PIXELS) & ~any_reader
    dark, bright = np.percentile(image[ring], 20), np.median(image[core])
    near = ndimage.binary_dilation(any_reader, iterations=MARGIN_PIXELS)
    labels, _ = ndimage.label((image > (float(dark) + float(bright)) / 2) & near)
    counts = np.bincount(labels[core])
    counts[0] = 0
    if not counts.any():
        return core
    filled: Mask = ndimage.binary_fill_holes(labels == counts.argmax())
    return filled


def mask_styles(image: Pixels8, readers: Pixels8) -> tuple[Mask, ...]:
    """Returns the readers' mask, the threshold's, and wider and narrower ones; none is empty."""
    core = reader_mask(readers)
    styles = [core, threshold_mask(image, readers), readers >= 1, ndimage.binary_dilation(core)]
    narrow = ndimage.binary_erosion(core)
    styles.append(narrow if narrow.sum() >= 4 else core)
    return tuple(styles)
