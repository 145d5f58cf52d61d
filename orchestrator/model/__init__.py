"""Frozen data types shared by all packages, and functions on text; no I/O except lazy imports."""
