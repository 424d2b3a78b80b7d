"""Replicated data types: pure values and rows, no clock, no disk, no network.

Read in this order: `causality`, `hlc`, `facts`, `encoding`, `store`, `rows`, `state`; then how rows become
what is seen: `moves`, `blocks`, `versions`, `heads`, `names`, `view`.  Nothing in here imports another of our
packages (tests/test_layering.py holds us to that).
"""
