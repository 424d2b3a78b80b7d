"""One history of calls on two file systems: on the host's own, and in a mount.

`calls` are the calls, `side` makes them in a process, `pair` compares the two sides, `machine` draws the
calls, and `python -m tests.system.host` plays histories.
"""
