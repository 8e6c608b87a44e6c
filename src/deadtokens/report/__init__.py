"""A run folder as one HTML page: the answer, charts, tables, what was run.

Nothing is computed here but places on the page: every number comes from the run folder.
"""
