"""What a POSIX request means: requests become facts, and the view becomes answers.

Pure: time, randomness and storage are arguments.  Errors are OSError with the errno of the man
page.  All of it is called with the one lock held.
"""
