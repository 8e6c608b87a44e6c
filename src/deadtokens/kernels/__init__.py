"""Compiled loops over plain arrays. No validation and no seeding: their callers do that.

Kernels that compute have plain-NumPy twins of the same signature in the modules `plain…`, slower
and obvious, that the tests hold them to. Those that draw random numbers are plain Python
themselves: uncompiled they give the same numbers. All release the GIL, so callers run them in
threads. Each says what it costs, and which equation or section of docs/method.md, or which paper,
it computes.
"""
