"""Loads that verify what they read: fio, dbench."""

from __future__ import annotations

import os
import re

from tests.programs.case import Case, Place, run
from tests.programs.versioning import make_sources


def fio(place: Place) -> None:
    """Random writes of mixed sizes through each interface, read back and checked block by block."""
    size = f"--size={place.size(2, 64)}m"
    common = [
        "fio",
        "--minimal",
        f"--directory={place.root}",
        size,
        "--verify=crc32c",
        "--verify_fatal=1",
        "--do_verify=1",
    ]
    for name, options in {
        "psync": ["--ioengine=psync", "--rw=randwrite", "--bsrange=512-64k", "--bs_unaligned"],
        "fsync": ["--ioengine=psync", "--rw=randwrite", "--bs=4k", "--fsync=64"],
        "mmap": ["--ioengine=mmap", "--rw=randwrite", "--bs=4k"],
        "direct": ["--ioengine=libaio", "--direct=1", "--iodepth=16", "--rw=randwrite", "--bs=4k"],
        "threads": ["--ioengine=psync", "--rw=rw", "--numjobs=4", "--bs=8k", "--verify_backlog=64"],
    }.items():
        run(*common, f"--name={name}", *options, cwd=place.root)


def dbench(place: Place) -> None:
    """The requests of an office's file server, by two clients, for some seconds."""
    said = run("dbench", "-D", os.fspath(place.root), "-t", str(place.size(2, 15)), "2")
    assert re.search(r"Throughput [\d.]+ MB/sec", said), said[-500:]


def file_system_in_a_file(place: Place) -> None:
    """The kernel itself writes to the file, through a loop device."""
    image, mounted, sources = place.root / "image", place.material / "mounted", place.material / "sources"
    mounted.mkdir(exist_ok=True)
    if not sources.exists():
        make_sources(sources, place.size(100, 1_000))
    run("truncate", "-s", "64M", image)
    run("mkfs.ext4", "-q", image)
    for command in (["cp", "-r", sources, mounted / "tree"], ["diff", "-r", sources, mounted / "tree"]):
        run("mount", "-o", "loop", image, mounted)
        try:
            run(*command)
        finally:
            run("umount", mounted)
        run("e2fsck", "-fn", image)


CASES = [
    Case("fio with verification", fio, packages=("fio",), quick=False),
    Case("dbench, for 15 s", dbench, packages=("dbench",), quick=False),
    Case("ext4 in a file", file_system_in_a_file, packages=("e2fsprogs", "mount"), quick=False),
]
