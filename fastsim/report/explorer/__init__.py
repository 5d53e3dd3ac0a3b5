"""One self-contained HTML page to explore a search with, from the directory that ``fastsim search --out`` has written.

`fastsim.report.explorer.page.write_explorer` is what ``fastsim report SEARCH_DIR`` calls. What is drawn follows limits
that the reader moves, and so is drawn by the page's script; without it the tables of the page are read.
"""
