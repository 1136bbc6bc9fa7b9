"""A run's results beside the best that is possible: as a table, and as one page."""

from fromnoise.report.assess import Assessor, Result, exact_beside, table_for
from fromnoise.report.density import Likelihood, likelihood_of
from fromnoise.report.guide import AtScale, at_scales
from fromnoise.report.page import table_rows, write_report

__all__ = [
    "Assessor",
    "AtScale",
    "Likelihood",
    "Result",
    "at_scales",
    "exact_beside",
    "likelihood_of",
    "table_for",
    "table_rows",
    "write_report",
]
