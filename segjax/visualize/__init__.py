"""Pictures of labels, errors, scores, flow and training curves: numpy in, uint8 RGB (h, w, 3) out."""

from segjax.visualize.flow import flow_to_color, wheel_legend
from segjax.visualize.labels import (
    PICTURES,
    VOID,
    WRONG,
    boundaries,
    colorize,
    error_map,
    hatch,
    label_picture,
    overlay,
)
from segjax.visualize.plots import PANELS, Line, confusion_plot, curves, interval_plot, line_plot
from segjax.visualize.shares import ENTROPY, share_legend, share_to_color
from segjax.visualize.sheets import FAINT, GAP, PAPER, labelled_sheet, legend, sheet, sheet_width
from segjax.visualize.tables import print_table
from segjax.visualize.text import INK, shorten, write

__all__ = [
    "ENTROPY", "FAINT", "GAP", "INK", "Line", "PANELS", "PAPER", "PICTURES", "VOID", "WRONG", "boundaries", "colorize",
    "confusion_plot", "curves", "error_map", "flow_to_color", "hatch", "interval_plot", "label_picture",
    "labelled_sheet", "legend", "line_plot", "overlay", "print_table", "share_legend", "share_to_color", "sheet",
    "sheet_width", "shorten", "wheel_legend", "write",
]  # fmt: skip
