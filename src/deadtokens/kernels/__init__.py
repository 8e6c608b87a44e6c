"""Compiled loops over plain arrays. No validation and no seeding: their callers do that.

Each compiled function has a plain-NumPy twin of the same signature in `plain`, slower and obvious,
that the tests hold it to. All of them release the GIL, so callers run them in threads.
"""
