"""Prints how far each transfer syntax of one CT slice is from the uncompressed slice, in HU.

Run: python tests/reference/ct_transfer_syntaxes.py DATA/medical/dicom/ct-transfer-syntaxes
Lossy differences depend on the decoder; dcmtk's `dcmdjpeg` serves as a second opinion for the
two processes that only python-gdcm decodes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from pydicom import dcmread

from kits.medical.intake.pixels import hounsfield

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    reference = hounsfield(dcmread(folder / "CTImage.dcm"))
    for path in sorted(folder.glob("CTImage.dcm_*")):
        difference = np.abs(hounsfield(dcmread(path)) - reference)
        print(f"{path.stem[12:]}: max {difference.max():.2f} HU, mean {difference.mean():.2f} HU")
