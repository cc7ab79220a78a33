"""Scores of trained networks on datasets, as numbers, tables and pictures."""

from segjax.evaluation.confusions import Evaluation, ImageScore, evaluate
from segjax.evaluation.extra_scores import ExtraScores, describe_scores, plain_scores
from segjax.evaluation.report import error_sheet, print_scores, score_table, write_report
from segjax.evaluation.scorer import Scorer, headline, per_class, rows_of_batch

__all__ = [
    "Evaluation", "ExtraScores", "ImageScore", "Scorer", "describe_scores", "error_sheet", "evaluate",
    "headline", "per_class", "plain_scores", "print_scores", "rows_of_batch", "score_table", "write_report",
]  # fmt: skip
