"""Results as one self-contained HTML page: nothing is fetched, and nothing of a user's file is interpreted.

Inside: page (the house's frame), wording (numbers and names as text), drawing (plots as SVG in the page's colours),
thumbnails, and for the audit: audit (the entrance), problems, audit_tables, class_plots, box_plots; for an evaluation:
evaluation (the entrance), evaluation_words, evaluation_plots, evaluation_sheets.
"""

from focalcli.render.html.audit import audit_page

__all__ = ["audit_page"]
