"""The words by which chest-CT reports name what they describe.

Data only: regular expressions, matched without regard to case at word boundaries. The lists are
our own words; no codes of a terminology are given here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = [
    "CONCEPTS",
    "ELSEWHERE",
    "IN_LUNG",
    "OTHER_SIZED",
    "Concept",
]


@dataclass(frozen=True)
class Concept:
    """One thing that a chest CT can show.

    Args:
        label: Its name in prose.
        patterns: The ways in which reports write it.
        general: Whether it is dropped where it is only a part of a longer term of another concept.
        in_lung: Whether it counts only where no other organ is named with it.
        sizable: Whether a diameter beside it is its own.
    """

    label: str
    patterns: tuple[str, ...]
    general: bool = False
    in_lung: bool = False
    sizable: bool = False


CONCEPTS: Mapping[str, Concept] = MappingProxyType(
    {
        "nodule": Concept(
            "pulmonary nodule",
            (
                r"(?:micro-?)?nodules?",
                (
                    r"nodular (?:(?:or|and|/) ?\w+ )?(?:lesion|opacit|densit|shadow"
                    r"|formation|structure)\w*"
                ),
                r"nodular(?:ity|ities)",
                r"coin lesions?",
            ),
            in_lung=True,
            sizable=True,
        ),
        "mass": Concept(
            "pulmonary mass",
            (
                r"mass(?:es)?(?! effect)(?: lesions?)?",
                r"tumou?rs?",
                r"mass-like (?:lesion|opacity)s?",
            ),
            in_lung=True,
            sizable=True,
        ),
        "ground-glass opacity": Concept(
            "ground-glass opacity",
            (
                (
                    r"ground[- ]?glass(?:[- ](?:opacit|densit|attenuation|appearance"
                    r"|shadow|infiltrat|area)\w*)*"
                ),
                r"ggos?",
            ),
        ),
        "consolidation": Concept("consolidation", (r"consolidat(?:ions?|ive|ed)(?: areas?)?",)),
        "opacity": Concept(
            "lung opacity",
            (
                r"opacit(?:y|ies)",
                r"infiltrat(?:es?|ions?|ive)",
                r"opacifications?",
                r"pneumoni[ac]",
                r"patchy (?:shadow|densit)\w*",
            ),
            general=True,
            in_lung=True,
        ),
        "pleural effusion": Concept(
            "pleural effusion",
            (
                r"pleural(?:[- ](?:or|and|/)[- ]pericardial)?(?: free)?[- ](?:effusions?|fluid)",
                r"hydro(?:pneumo)?thorax",
                r"ha?emothorax",
                (
                    r"(?:bilateral|right|left)(?:[- ]sided)?(?: (?:minimal|small|mild"
                    r"|moderate|large|massive))? effusions?"
                ),
                (
                    r"effusions?(?= (?:is|are|was|were)? ?(?:\w+ ){0,4}(?:in|of) (?:the "
                    r"|both |right |left )*(?:pleura|hemithora))"
                ),
            ),
        ),
        "pericardial effusion": Concept(
            "pericardial effusion",
            (
                r"pericardial(?: free)?[- ](?:effusions?|fluid)",
                r"(?:effusions?|fluid)(?: (?!pleura|not|no)[\w.]+){0,9} pericardi\w+",
            ),
        ),
        "pneumothorax": Concept("pneumothorax", (r"(?:hydro)?pneumothora(?:x|ces)",)),
        "lymphadenopathy": Concept(
            "lymphadenopathy",
            (
                r"(?:lymph)?adenopath(?:y|ies)",
                r"laps?",
                (
                    r"(?:pathological(?:ly)? )?(?:enlarged|pathological|prominent"
                    r"|increased)(?: sized?)?(?: (?!lymph)[\w-]+){0,2} (?:lymph )?nodes?"
                ),
                r"lymph nodes?(?: with)? (?:enlargement|enlarged|in pathological)",
                r"lymphadenomegal(?:y|ies)",
            ),
            sizable=True,
        ),
        "lymph node": Concept(
            "lymph node (of any size)", (r"lymph nodes?",), general=True, sizable=True
        ),
        "emphysema": Concept(
            "emphysema",
            (r"emphysema(?:tous)?(?: (?:changes?|areas?))?", r"bullous (?:changes?|disease)"),
        ),
        "atelectasis": Concept(
            "atelectasis",
            (
                r"(?:sub|linear )?atelect[ae](?:s[ie]s|tic)(?: (?:changes?|areas?|bands?))?",
                r"(?:lobar|lung|segmental) collapse",
            ),
        ),
        "cardiomegaly": Concept(
            "cardiomegaly",
            (
                r"cardiomegaly",
                r"(?:enlarged heart|enlarged cardiac silhouette|cardiac enlargement)",
                (
                    r"heart (?:size )?(?:is|was|appears)? ?(?:slightly |mildly "
                    r"|moderately |markedly )?(?:increased|enlarged|larger)"
                ),
                (
                    r"(?:heart|cardiac)(?: sizes?| dimensions)?(?: (?:has|have|had|is|are"
                    r"|was|were))?(?: \w+){0,2} (?:increased|enlarged|larger than normal)"
                ),
                r"increased? (?:in )?(?:the )?(?:heart|cardiac) (?:sizes?|dimensions)",
                (
                    r"(?:cardiothoracic (?:ratio|index)|ctr)(?: (?:has|have|is|was"
                    r"|were))?(?: \w+){0,2} increased?"
                ),
                r"increased? (?:in )?(?:the )?(?:cardiothoracic (?:ratio|index)|ctr)",
            ),
        ),
        "bronchiectasis": Concept(
            "bronchiectasis",
            (
                r"(?:bronchi(?:ol)?|bronch)o?ectas[ie]s",
                r"bronchiectatic(?: changes?)?",
                r"bronchiectases",
            ),
        ),
        "fracture": Concept("fracture", (r"fractures?", r"fractured")),
        "metastasis": Concept(
            "metastasis", (r"metast[ae]s[ie]s", r"metastatic(?: (?:disease|deposit)s?)?")
        ),
        "pulmonary fibrosis": Concept(
            "pulmonary fibrosis",
            (
                r"fibro(?:sis|tic)(?: (?:changes?|strands?|bands?|densit\w+))?",
                r"fibroatelectatic",
                r"sequelae?(?:l)?",
                r"(?:pleuro)?parenchymal bands?",
                r"honeycomb(?:ing)?",
            ),
            in_lung=True,
        ),
        "septal thickening": Concept(
            "interlobular septal thickening",
            (
                (
                    r"(?:inter|intra)?(?:lobular|lobar)(?: and \w+)? sept(?:al|um|a)(?:"
                    r" \w+){0,2} (?:thicken\w+|thickness increas\w+)"
                ),
                r"sept(?:al|um|a) (?:thickening\w*|thickness increas\w+)",
                r"thicken\w+ (?:of|in)(?: [\w-]+){0,5} sept(?:al|um|a)",
            ),
        ),
        "peribronchial thickening": Concept(
            "peribronchial thickening",
            (
                r"peribronch(?:ial|ovascular|iolar)(?: (?!not|no)\w+){0,4} thick(?:en\w+|ness)",
                r"thick(?:en\w+|ness)(?: (?!not|no)\w+){0,4} peribronch\w+(?: sheaths?)?",
                r"bronchi?a?l? walls? thicken\w+",
                r"thickening (?:of|in|is observed in) (?:the )?(?:\w+ )?bronchial walls?",
                r"thicken\w+ (?:\w+ )?(?:bronchial walls?|of (?:the )?bronch\w+)",
                r"bronchial wall thickness(?: increase\w*)?",
            ),
        ),
        "mosaic attenuation": Concept(
            "mosaic attenuation",
            (r"mosaic (?:attenuation|perfusion|pattern|lung|appearance|densit\w+)(?: pattern)?",),
        ),
        "hiatal hernia": Concept(
            "hiatal hernia",
            (
                r"hiat(?:al|us|e)(?: \w+)? herni\w+",
                r"sliding(?: type)? herni\w+",
                r"herniat\w+ (?:\w+ ){0,4}hiatus",
            ),
        ),
        "coronary calcification": Concept(
            "coronary artery calcification",
            (
                (
                    r"coronary(?: (?:artery|arteries|arterial|vessels?|vascular|wall"
                    r"|walls|and aortic)){0,3} (?:calcif\w+|atheroscl\w+|atheroma\w*"
                    r"|plaques?|stents?)(?: \w*plaques?)?"
                ),
                (
                    r"(?:calcif\w+|atheroma\w*|atheroscl\w+|plaques?)(?:,? (?!not"
                    r"|no)[\w-]+){0,12} coronary(?: arter\w+)?"
                ),
                r"(?:coronary arter\w+)(?= (?:\w+ ){0,2}(?:calcif|atheroma|plaque))",
            ),
        ),
        "arterial calcification": Concept(
            "arterial wall calcification",
            (
                r"aort(?:a|ic)(?: \w+){0,3} (?:calcif\w+|atheroscl\w+|atheroma\w*|plaques?)",
                (
                    r"(?:calcif\w+|calcific|atheroma\w*|atheroscl\w+|plaques?)(?: (?!not"
                    r"|no|lymph|nodule|coronary)[\w,-]+){0,9} (?:aorta|aortic(?! valve)"
                    r"|arch|arteries|artery|vascular|supraaortic)"
                ),
                r"atheroscl\w+(?: changes?| plaques?)?(?! (?:[\w-]+ ){0,6}coronary)",
                (
                    r"(?<!pleural )(?:atheromatous|calcific) (?:plaques?|changes?)(?!"
                    r" (?:[\w-]+ ){0,6}coronary)"
                ),
            ),
        ),
        "medical device": Concept(
            "medical device",
            (
                r"catheters?",
                r"pace-?makers?",
                r"stents?",
                r"prosthe(?:sis|ses|tic)(?: valves?)?",
                (
                    r"(?:endotracheal|tracheostomy|nasogastric|drainage|chest|thorax"
                    r"|feeding) (?:tubes?|cannula)"
                ),
                r"tracheostomy",
                r"sternotomy(?: (?:wires?|sutures?))?",
                r"(?:metallic|surgical|operation|suture) (?:sutures?|clips?|materials?|implants?)",
                r"(?:port|icd|defibrillator|electrodes?)(?: (?:chamber|leads?))?",
                r"implants?",
            ),
        ),
    }
)

# Organs whose nodules, masses and opacities are not the lung's.
ELSEWHERE = (
    r"thyroid\w*",
    r"adrenals?",
    r"surrenal\w*",
    r"hepat\w+",
    r"liver",
    r"spleen|splenic",
    r"pancrea\w+",
    r"kidneys?|renal",
    r"breasts?",
    r"o?esophag\w+",
    r"stomach|gastric",
    r"gall ?bladder",
    r"mesenter\w+",
    r"peritone\w+",
    r"omentum|omental",
    r"subcutaneous",
    r"soft tissues?",
    r"muscles?|muscular|intramuscular",
    r"skin",
    r"bones?|vertebra\w*|ribs?|stern\w+|scapula\w*|clavic\w+|osseous",
    r"axill\w+",
    r"thymus|thymic",
    r"bladder",
    r"prostate",
    r"uter\w+",
    r"ovar\w+",
    r"cardiac chambers?|atri\w+|ventric\w+",
    r"upper abdom\w+",
    r"intraabdominal",
    r"fatty? (?:tissue|plane)s?",
    r"bowel|colon\w*|intestin\w+",
    r"schmorl\w*",
    r"lipoma\w*",
    r"mediastin\w+ mass",
)

IN_LUNG = (
    r"lungs?",
    r"pulmonary",
    r"lobes?",
    r"lobar",
    r"lingula\w*",
    r"pleur\w+",
    r"fissur\w+",
    r"parenchyma\w*",
    r"hil(?:ar|um|i)",
    r"bronch\w+",
    r"(?:[RL][UL]L|RML)",
    r"subpleural",
    r"intrapulmonary",
    r"segments?",
    r"apex|apic\w+|basal\w*|hemithora\w+",
)
# Other things that reports measure: a size nearest to one of these is its own.
OTHER_SIZED = (
    r"cysts?",
    r"lesions?",
    r"effusions?",
    r"aneurysm\w*",
    r"arter(?:y|ies)",
    r"aorta",
    r"calcul\w+",
    r"stones?",
    r"thickness",
    r"slices?",
    r"trunk",
    r"diverticul\w+",
    r"stent",
    r"tube",
    r"catheter",
    r"spleen",
    r"liver",
    r"kidneys?",
    r"hemangioma\w*",
    r"fluid",
    r"bulla\w*",
    r"cavit\w+",
    r"defect\w*",
)
