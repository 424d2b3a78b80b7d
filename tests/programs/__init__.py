"""What people do with programs, as cases that run in any directory: on a mount, and on the host to compare.

To read in this order: `case` (what a case is), `trees` (trees to copy), then the cases by subject,
`versioning`, `databases`, `building`, `copying`, `editing`, `loads`.  `crashes` has what only a mount can be
asked for: a daemon that is killed under a program.  `catalogue` lists all cases.

`tests/system/test_programs.py` runs the quick ones as tests, `scripts/programs` (`__main__`) all of them in
their full size, with their packages installed and a table of seconds.
"""
