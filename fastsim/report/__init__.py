"""One self-contained HTML page about one run or several side by side, from the directories that ``--out`` has written.

`fastsim.report.page.write_report` is what ``fastsim report`` calls. Charts are drawn here, as SVG; the script of the
page only tells the values under the pointer or the arrow keys, so that the page can be printed, and read without it.
"""
