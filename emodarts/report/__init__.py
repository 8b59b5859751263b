"""The report: result tables as a page, as tables and figures in files, and on a terminal."""
