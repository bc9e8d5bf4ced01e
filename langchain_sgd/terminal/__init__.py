"""Skeletons, reports and running questions on the terminal.

Everything a model wrote is printed without its control characters: text must not move the cursor, change
colors or set the window's title.
"""

from langchain_sgd.terminal.live import LiveView
from langchain_sgd.terminal.trees import report_line, report_tree, skeleton_tree

__all__ = ["LiveView", "report_line", "report_tree", "skeleton_tree"]
