"""python -m elmer"""

from elmer.cli import main

main()
