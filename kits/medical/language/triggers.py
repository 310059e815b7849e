"""The words by which reports deny, doubt or set aside what they name.

Data only: regular expressions, matched without regard to case at word boundaries. The lists are
our own words; the kinds of trigger (before, after, pseudo, terminating) are those of NegEx
(Chapman et al. 2001, J Biomed Inform 34:301) and ConText (Harkema et al. 2009, J Biomed Inform
42:839).
"""

from __future__ import annotations

__all__ = [
    "CLAUSE_BREAKS",
    "DOUBT_AFTER",
    "DOUBT_BEFORE",
    "NEGATION_AFTER",
    "NEGATION_BEFORE",
    "NOT_THIS_PATIENT_NOW",
    "PREDICATE",
    "PSEUDO_NEGATION",
]

NEGATION_BEFORE = (
    r"no",
    r"not (?:any|a|seen|observed|detected)",
    r"without(?: any)?",
    r"free (?:of|from)",
    r"negative for",
    r"absence of",
    r"absent",
    r"neither",
    r"nor",
    r"none of",
    r"lack of",
    r"lacks?",
    r"den(?:y|ies|ied)",
    r"rules? out",
    r"ruled out",
    r"never",
    (
        r"(?:did|does|do|could|was|were|is|are|has|have) not (?:show|reveal|demonstrate"
        r"|identify|detect|see|have|contain|include)"
    ),
    r"fails? to (?:show|reveal|demonstrate)",
    r"resolution of",
    r"resolved",
    r"instead of",
    r"rather than",
)
NEGATION_AFTER = (
    (
        r"(?:is|are|was|were|has been|have been|had been|can|could)(?: also)? ?not(?:"
        r" clearly| be| been| any(?: longer)?)* ?(?:seen|observed|detected|identified"
        r"|present|noted|found|visible|visuali[sz]ed|demonstrated|evident|distinguished"
        r"|selected|encountered|monitored|watched|followed|shown|remarkable|available"
        r"|considered|included|differentiated|determined|recogni[sz]ed|appreciated)"
    ),
    (
        r"(?:is|are|was|were) (?:absent|excluded|ruled out|negative|unlikely|resolved|no"
        r" longer (?:seen|present|visible))"
    ),
    (
        r"(?:has|have|is|are|was|were)(?: been)?(?: completely| since| now)? (?:resolved"
        r"|disappeared|cleared|completely regressed)"
    ),
    (
        r"not (?:seen|observed|detected|identified|present|noted|found|visible"
        r"|visuali[sz]ed|demonstrated|evident)"
    ),
    r"(?:is|are|was|were|has|have|did|does) not",
    r": (?:none|no|absent|negative|nil)",
    r"-? ?(?:none|nil|absent)",
)
# "No" and "not" that deny something else than the concept beside them.
PSEUDO_NEGATION = (
    (
        r"no (?:significant |relevant |interval |apparent |definite |major |obvious"
        r" )*(?:change|increase|decrease|difference|growth|progression|regression"
        r"|enlargement)s?(?: (?:in|of|to|from))?"
    ),
    r"not (?:only|just|merely|necessarily)",
    r"without (?:\w+ )?(?:change|difference|progression|growth|increase)s?(?: (?:in|of))?",
    r"not (?:significantly |markedly )?(?:changed|increased|decreased|grown|enlarged)",
    r"unchanged",
    r"no longer than",
    (
        r"(?:can|could|may) ?not be (?:\w+ )?(?:excluded|ruled out|differentiated"
        r"|evaluated|characteri[sz]ed|assessed|clearly)"
    ),
    r"not (?:excluded|ruled out)",
    (
        r"not (?:seen|observed|detected|present|visible|available|noted) (?:in|on|at)"
        r" (?:the |his |her |their |any )?(?:previous|prior|earlier|old)"
    ),
    r"no doubt",
    r"not reach(?:ing|ed)?",
    r"(?:did|does|do) not (?:reach|exceed|change|differ|enhance)",
    r"(?:could|can|was|were|is|are) not (?:be )?(?:optimally|evaluated|assessed|performed|fully)",
    r"no (?:prior|previous|earlier|old)(?: \w+)? (?:exam|stud|scan|imag)\w*",
    r"no\.? \d+",
    (
        r"not (?:show|enlarge|contain|calcified|associated|related)\w*(?= (?:any"
        r" )?(?:contrast|enhancement|calcif|invasion))"
    ),
)
DOUBT_BEFORE = (
    r"possible",
    r"possibly",
    r"probable",
    r"probably",
    r"presumabl[ey]",
    r"potential(?:ly)?",
    r"suspected",
    r"suspect",
    r"suspicio(?:n|us) (?:of|for)",
    r"may",
    r"might",
    r"could",
    r"perhaps",
    r"question(?:able)?(?: of)?",
    r"equivocal",
    r"cannot exclude",
    r"can not exclude",
    r"(?:to )?exclude",
    r"differential diagnos[ie]s",
    r"vs\.?",
    r"versus",
    r"query",
    r"concern(?:ing)? (?:for|of)",
    r"thought to be",
    r"risk of",
)
DOUBT_AFTER = (
    r"(?:can|could|may) ?not be (?:\w+ )?(?:excluded|ruled out)",
    r"(?:is|are|was|were)? ?not (?:excluded|ruled out)",
    (
        r"(?:is|are|was|were) (?:possible|probable|suspected|suspicious|questionable"
        r"|likely|considered|equivocal)"
    ),
    r"(?:may|might|could) (?:be|represent)(?= (?:present|possible|seen|artifact))",
    r"should be (?:excluded|ruled out)",
    r"\?",
)
# What was, or what others have, is no finding of this examination (ConText's "historical" and
# "other").
NOT_THIS_PATIENT_NOW = (
    r"history of",
    r"known (?:case|history)",
    r"family history",
    (
        r"(?:his|her|the patient's|patient's) (?:mother|father|sister|brother|aunt|uncle"
        r"|parents?|family)"
    ),
    r"(?:mother|father|sister|brother) (?:had|has|with)",
    r"status post",
    r"s/p",
    r"past medical",
    r"followed (?:up )?(?:for|due to|with)",
    r"(?:operated|treated) (?:for|due to|because of)",
    r"diagnosed with",
    r"previously (?:operated|treated|resected|removed)",
    r"in (?:a|the) (?:patient|case) with (?:a )?history",
)

# A finite verb with its participle: what stands before it is said, what follows is new.
PREDICATE = (
    r"(?:is|are|was|were|has been|have been)(?: also| not| again| still)* (?:seen"
    r"|observed|detected|identified|present|noted|found|visible|demonstrated|evident"
    r"|watched|monitored|available|followed|selected)"
)
# Words that end the reach of a trigger. The comma ends it before a new noun phrase only, so that
# "no effusion, pneumothorax or mass" stays one denial.
CLAUSE_BREAKS = (
    r"but",
    r"however",
    r"although",
    r"though",
    r"nevertheless",
    r"yet",
    r"while",
    r"whereas",
    r"except(?: for)?",
    r"apart from",
    r"aside from",
    r"besides",
    r"other than",
    r"in addition(?: to)?",
    r"additionally",
    r"because",
    r"since",
    r"secondary to",
    r"due to",
    r"and there (?:is|are|was|were)",
    r";|:(?! ?(?:none|absent|negative|nil)\b)",
    (
        r"[,.](?= (?:an?|the|there|few|a few|several|multiple|numerous|many|some|small"
        r"|mild|minimal|both|bilateral|also|\d)\b)"
    ),
)
