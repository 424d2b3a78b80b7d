"""The shell: clock, disk, sockets, kernel and command line, given to the pure packages.

Read `daemon` (what a mount is made of), `fuse` (requests of the kernel), `local` (requests of peers),
`invalidate` (what the kernel is told), then the commands, `cli` and `cli_*`.
"""
