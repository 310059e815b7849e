"""The coded concepts that our results use: value, scheme, meaning, and where they are defined.

CID and TID are context groups and templates of DICOM PS3.16, "Annex D" is its list of DCM
codes. A concept that no standard scheme has carries our private scheme 99TANDEM, which every
object that uses it declares (DICOM PS3.3 C.12.1, Coding Scheme Identification Sequence).
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.sr.coding import Code

from kits.medical.intake.identifiers import derive_uid

__all__ = [
    "ARTIFICIAL_INTELLIGENCE",
    "ATTENUATION",
    "COMMENT",
    "CONCLUSION",
    "COUNT",
    "CUBIC_CENTIMETRE",
    "FHIR_SYSTEMS",
    "HOUNSFIELD",
    "LATERALITIES",
    "LESION",
    "LESION_PROBABILITY",
    "LONG_AXIS",
    "LUNG",
    "MASS",
    "MASS_LONG_AXIS_MM",
    "MAXIMUM",
    "MEAN",
    "MILLIMETRE",
    "MORPHOLOGICALLY_ABNORMAL",
    "MORPHOLOGICAL_OPERATIONS",
    "NODULE",
    "NUMBER_OF_LESIONS",
    "PRIVATE_SCHEME",
    "PRIVATE_SCHEME_UID",
    "PROCEDURES",
    "QUALITATIVE_EVALUATIONS",
    "REGIONS",
    "REPORT_SUPPORT",
    "SHORT_AXIS",
    "SUPPORT_VALUES",
    "TARGET_REGION",
    "TITLE",
    "UNITLESS",
    "VOLUME",
    "Concept",
]

PRIVATE_SCHEME = "99TANDEM"
PRIVATE_SCHEME_UID = derive_uid("coding scheme", PRIVATE_SCHEME)

FHIR_SYSTEMS = {  # HL7 FHIR R4, section 4.3.0 "Code systems"
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
    "SCT": "http://snomed.info/sct",
    "UCUM": "http://unitsofmeasure.org",
    PRIVATE_SCHEME: f"urn:oid:{PRIVATE_SCHEME_UID}",
}


@dataclass(frozen=True)
class Concept:
    """One coded concept.

    Args:
        value: Code Value.
        scheme: Coding Scheme Designator (DICOM PS3.16 section 8).
        meaning: Code Meaning.
        clause: Where the concept, or its use here, is defined.
    """

    value: str
    scheme: str
    meaning: str
    clause: str

    @property
    def code(self) -> Code:
        """The concept as pydicom and highdicom take it."""
        return Code(self.value, self.scheme, self.meaning)

    @property
    def coding(self) -> dict[str, str]:
        """The concept as a FHIR Coding."""
        return {
            "system": FHIR_SYSTEMS[self.scheme],
            "code": self.value,
            "display": self.meaning,
        }


TITLE = Concept("126000", "DCM", "Imaging Measurement Report", "CID 7021")
QUALITATIVE_EVALUATIONS = Concept("C0034375", "UMLS", "Qualitative Evaluations", "TID 1500 row 12")
CONCLUSION = Concept("121077", "DCM", "Conclusion", "Annex D")
COMMENT = Concept("121106", "DCM", "Comment", "Annex D")
TARGET_REGION = Concept("123014", "DCM", "Target Region", "TID 1602")

PROCEDURES = {
    "chest": Concept("24627-2", "LN", "CT Chest", "LOINC"),
    "head": Concept("24725-4", "LN", "CT Head", "LOINC"),
    "unknown": Concept("25045-6", "LN", "CT unspecified body region", "CID 100"),
}
"""Procedure reported, by body region; a region that is not here is "unknown"."""

REGIONS = {
    "chest": Concept("816094009", "SCT", "Chest", "CID 4031"),
    "head": Concept("69536005", "SCT", "Head", "CID 4031"),
    "abdomen": Concept("818981001", "SCT", "Abdomen", "CID 4031"),
    "phantom": Concept("706342009", "SCT", "Phantom", "CID 4031"),
}
"""Anatomic region, by the name of the body region; "unknown" has none."""

LATERALITIES = {
    "left": Concept("7771000", "SCT", "Left", "CID 244"),
    "right": Concept("24028007", "SCT", "Right", "CID 244"),
}
"""By `LesionReading.laterality`; None has none."""

LUNG = Concept("39607008", "SCT", "Lung", "CID 4")
MORPHOLOGICALLY_ABNORMAL = Concept(
    "49755003", "SCT", "Morphologically Abnormal Structure", "CID 7150"
)
NODULE = Concept("27925004", "SCT", "Nodule", "CID 7159")
MASS = Concept("4147007", "SCT", "Mass", "CID 7159")
LESION = Concept("52988006", "SCT", "Lesion", "CID 7159")
MASS_LONG_AXIS_MM = 30.0
"""A rounded opacity of the lung above 3 cm is a mass, up to 3 cm a nodule (Hansell et al.,
Fleischner Society: Glossary of Terms for Thoracic Imaging, Radiology 246:697, 2008)."""

LONG_AXIS = Concept("103339001", "SCT", "Long axis", "CID 7470")
SHORT_AXIS = Concept("103340004", "SCT", "Short axis", "CID 7470")
VOLUME = Concept("118565006", "SCT", "Volume", "CID 7472")
ATTENUATION = Concept("112031", "DCM", "Attenuation Coefficient", "CID 7469")
MEAN = Concept("373098007", "SCT", "Mean", "CID 7464")
MAXIMUM = Concept("56851009", "SCT", "Maximum", "CID 7464")
NUMBER_OF_LESIONS = Concept("246206008", "SCT", "Number of lesions", "SNOMED CT observable entity")
LESION_PROBABILITY = Concept(
    "suspicion",
    PRIVATE_SCHEME,
    "Probability that readers call it suspicious of malignancy",
    "ours",
)
"""What `kits.medical.imaging.lesion` estimates. DCM 111047 "Probability of cancer" would claim
more: the network learned readers' ratings, not diagnoses."""

MILLIMETRE = Concept("mm", "UCUM", "millimeter", "CID 7460")
CUBIC_CENTIMETRE = Concept("cm3", "UCUM", "cubic centimeter", "CID 7462")
HOUNSFIELD = Concept("[hnsf'U]", "UCUM", "Hounsfield unit", "CID 7181")
UNITLESS = Concept("1", "UCUM", "no units", "CID 7181")
COUNT = Concept("{lesions}", "UCUM", "lesions", "UCUM section 2.3.2, annotation")

ARTIFICIAL_INTELLIGENCE = Concept("123110", "DCM", "Artificial Intelligence", "CID 7162")
MORPHOLOGICAL_OPERATIONS = Concept("123104", "DCM", "Morphological Operations", "CID 7162")

REPORT_SUPPORT = Concept("report-support", PRIVATE_SCHEME, "Support by the text report", "ours")
SUPPORT_VALUES = {
    "present": Concept("52101004", "SCT", "Present", "CID 240"),
    "absent": Concept("272519000", "SCT", "Absent", "CID 240"),
    "uncertain": Concept("373068000", "SCT", "Undetermined", "CID 240"),
    "not mentioned": Concept("not-mentioned", PRIVATE_SCHEME, "Not mentioned", "ours"),
    "no report": Concept("no-report", PRIVATE_SCHEME, "No report given", "ours"),
}
"""What the report says of a lesion, by `LesionReading.report_support`."""
