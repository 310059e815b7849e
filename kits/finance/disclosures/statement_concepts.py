"""Which concepts can supply each line of a company's statements, best first.

Names are those of the US GAAP taxonomy (FASB, 2009-2024) and, where one is given, of the IFRS
taxonomy. A way is a sum of terms: "+A -B ?C" takes A, takes B away and adds C where
the filing has it. A way is open only where all its terms but those with "?" or "~" are there;
"~C" takes C away where the filing has it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["LINES", "Line", "Term"]


class Term(NamedTuple):
    """One concept of a way, with its sign, and whether the way needs it."""

    concept: str
    sign: Literal[1, -1]
    needed: bool


class Line(NamedTuple):
    """A line of the statements: at an instant or over a duration, and the ways to it."""

    is_instant: bool
    ways: tuple[tuple[Term, ...], ...]


_SIGNS: dict[str, tuple[Literal[1, -1], bool]] = {
    "+": (1, True), "-": (-1, True), "?": (1, False), "~": (-1, False),
}  # fmt: skip


def _way(text: str) -> tuple[Term, ...]:
    terms = []
    for word in text.split():
        sign, needed = _SIGNS.get(word[0], (1, True))
        name = word.lstrip("+-?~")
        terms.append(Term(name if ":" in name else f"us-gaap:{name}", sign, needed))
    return tuple(terms)


def _at(*ways: str) -> Line:
    return Line(True, tuple(map(_way, ways)))


def _over(*ways: str) -> Line:
    return Line(False, tuple(map(_way, ways)))


_EQUITY_WITH_MINORITIES = "StockholdersEquityIncludingPortionAttributableToNoncontrollingInterest"
_MEZZANINE = (
    "~TemporaryEquityCarryingAmountIncludingPortionAttributableToNoncontrollingInterests "
    "~TemporaryEquityCarryingAmountAttributableToParent "
    "~RedeemableNoncontrollingInterestEquityCarryingAmount"
)
_PRE_TAX = "IncomeLossFromContinuingOperationsBeforeIncomeTaxes"
_OPERATING_CASH = "NetCashProvidedByUsedInOperatingActivities"
_INVESTING_CASH = "NetCashProvidedByUsedInInvestingActivities"
_FINANCING_CASH = "NetCashProvidedByUsedInFinancingActivities"

LINES: dict[str, Line] = {
    "assets_total": _at("Assets", "ifrs-full:Assets"),
    "assets_current": _at("AssetsCurrent", "ifrs-full:CurrentAssets"),
    "cash": _at(
        "CashAndCashEquivalentsAtCarryingValue",
        "CashCashEquivalentsRestrictedCashAndRestrictedCashEquivalents",
        "ifrs-full:CashAndCashEquivalents",
    ),
    "liabilities_total": _at(
        "Liabilities",
        "ifrs-full:Liabilities",
        f"LiabilitiesAndStockholdersEquity -{_EQUITY_WITH_MINORITIES} {_MEZZANINE}",
        f"LiabilitiesAndStockholdersEquity -StockholdersEquity ~MinorityInterest {_MEZZANINE}",
    ),
    "liabilities_current": _at("LiabilitiesCurrent", "ifrs-full:CurrentLiabilities"),
    "debt_current": _at(
        "DebtCurrent",
        "LongTermDebtAndCapitalLeaseObligationsCurrent ?ShortTermBorrowings",
        "LongTermDebtCurrent ShortTermBorrowings",
        "LongTermDebtCurrent ?CommercialPaper",
        "ifrs-full:CurrentBorrowings",
    ),
    "debt_noncurrent": _at(
        "LongTermDebtAndCapitalLeaseObligations",
        "LongTermDebtNoncurrent",
        "ifrs-full:NoncurrentBorrowings",
    ),
    "equity_total": _at(_EQUITY_WITH_MINORITIES, "StockholdersEquity", "ifrs-full:Equity"),
    "retained_earnings": _at("RetainedEarningsAccumulatedDeficit", "ifrs-full:RetainedEarnings"),
    "shares_outstanding": _at("CommonStockSharesOutstanding"),
    "revenue": _over(
        "Revenues",
        "RevenueFromContractWithCustomerExcludingAssessedTax",
        "RevenueFromContractWithCustomerIncludingAssessedTax",
        "SalesRevenueNet",
        "ifrs-full:Revenue",
    ),
    "operating_income": _over("OperatingIncomeLoss", "ifrs-full:ProfitLossFromOperatingActivities"),
    "income_before_tax": _over(
        f"{_PRE_TAX}ExtraordinaryItemsNoncontrollingInterest",
        f"{_PRE_TAX}MinorityInterestAndIncomeLossFromEquityMethodInvestments",
        "ifrs-full:ProfitLossBeforeTax",
    ),
    "interest_expense": _over(
        "InterestExpense",
        "InterestExpenseNonoperating",
        "InterestExpenseDebt",
        "ifrs-full:InterestExpense",
    ),
    "net_income": _over("NetIncomeLoss", "ProfitLoss", "ifrs-full:ProfitLoss"),
    "depreciation_and_amortization": _over(
        "DepreciationDepletionAndAmortization", "DepreciationAmortizationAndAccretionNet"
    ),
    "operating_cash_flow": _over(
        _OPERATING_CASH,
        f"{_OPERATING_CASH}ContinuingOperations",
        "ifrs-full:CashFlowsFromUsedInOperatingActivities",
    ),
    "investing_cash_flow": _over(
        _INVESTING_CASH,
        f"{_INVESTING_CASH}ContinuingOperations",
        "ifrs-full:CashFlowsFromUsedInInvestingActivities",
    ),
    "financing_cash_flow": _over(
        _FINANCING_CASH,
        f"{_FINANCING_CASH}ContinuingOperations",
        "ifrs-full:CashFlowsFromUsedInFinancingActivities",
    ),
    "capital_expenditure": _over(
        "PaymentsToAcquirePropertyPlantAndEquipment",
        "PaymentsToAcquireProductiveAssets",
        "ifrs-full:PurchaseOfPropertyPlantAndEquipmentClassifiedAsInvestingActivities",
    ),
}
