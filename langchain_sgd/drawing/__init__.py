"""Skeletons and reports as pictures: SVG for notebooks and pages, with all that belongs to it inside.

No script, no font and no picture is fetched. Text and lines take the color of the text around them and
fills are translucent, so that a picture reads on light and dark pages alike. What a color says is also
written, and the report's numbers follow as a table.
"""

from langchain_sgd.drawing.page import report_html, skeleton_html, skeleton_svg, timeline_svg

__all__ = ["report_html", "skeleton_html", "skeleton_svg", "timeline_svg"]
