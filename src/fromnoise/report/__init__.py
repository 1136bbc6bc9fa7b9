"""A run's results beside the best that is possible: as a table, and as one page."""

from fromnoise.report.assess import Assessor, Result, exact_beside, path_for, table_for
from fromnoise.report.autoencoder import write_autoencoder_report
from fromnoise.report.ceiling import Ceiling, ceiling_of, ceiling_of_samples
from fromnoise.report.computing import Computing, computing_of
from fromnoise.report.density import Bits, Likelihood, bits_of, likelihood_of
from fromnoise.report.distilled import Compared, compared, lineage
from fromnoise.report.field import ScoreField, score_fields
from fromnoise.report.guide import AtScale, at_scales
from fromnoise.report.page import table_rows, write_report
from fromnoise.report.respaced import Respaced, respaced

__all__ = [
    "Assessor",
    "AtScale",
    "Bits",
    "Ceiling",
    "Compared",
    "Computing",
    "Likelihood",
    "Respaced",
    "Result",
    "ScoreField",
    "at_scales",
    "bits_of",
    "ceiling_of",
    "ceiling_of_samples",
    "compared",
    "computing_of",
    "exact_beside",
    "likelihood_of",
    "lineage",
    "path_for",
    "respaced",
    "score_fields",
    "table_for",
    "table_rows",
    "write_autoencoder_report",
    "write_report",
]
