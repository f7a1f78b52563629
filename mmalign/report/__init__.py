"""What a run has done: as a page, as pictures and in the terminal."""

from mmalign.report.boxes import boxes_picture, boxes_table
from mmalign.report.graph import GraphPicture, graph_picture
from mmalign.report.page import write_report
from mmalign.report.pair import PairTokens, render_pair
from mmalign.report.plots import before_after_picture, funnel_picture

__all__ = [
    "GraphPicture",
    "PairTokens",
    "before_after_picture",
    "boxes_picture",
    "boxes_table",
    "funnel_picture",
    "graph_picture",
    "render_pair",
    "write_report",
]
