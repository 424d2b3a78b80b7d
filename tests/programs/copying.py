"""What copies trees and gives back what it was given: cp, rsync, tar, zip, dpkg-deb; what walks them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

from tests.programs.case import Case, Place, run
from tests.programs.trees import assert_same, make_tree
from tests.programs.versioning import make_sources


def make_original(place: Place) -> None:
    make_tree(place.material / "original", seed=1, directories=place.size(12, 400))


def original(place: Place) -> Path:
    return place.material / "original"


def cp_archive(place: Place) -> None:
    run("cp", "-a", original(place), place.root / "copy")
    run("cp", "-a", "--reflink=auto", place.root / "copy", place.root / "again")
    assert_same(original(place), place.root / "copy")
    assert_same(original(place), place.root / "again")
    run("cp", "-al", place.root / "copy", place.root / "linked")
    run("diff", "-r", "--no-dereference", "-x", "fifo", place.root / "copy", place.root / "linked")
    run("mv", place.root / "linked", place.root / "again" / "d0")
    run("rm", "-r", place.root / "again")


def rsync(place: Place) -> None:
    there, back = place.root / "there", place.root / "back"
    options = ["-aHAX", "--numeric-ids", "--devices", "--specials"]
    run("rsync", *options, f"{original(place)}/", f"{there}/")
    assert_same(original(place), there)
    again = run("rsync", *options, "--itemize-changes", f"{original(place)}/", f"{there}/")
    assert again == "", "the second run found something to do"
    run("rsync", *options, "--sparse", f"{there}/", f"{back}/")
    assert_same(original(place), back)
    run("rsync", *options, "--delete", "--link-dest", there, f"{there}/", place.root / "third")
    assert (place.root / "third" / "hard1").stat().st_nlink == 6
    run("rm", "-r", place.root / "third")
    shutil.rmtree(there / "d3")
    (there / "hard1").write_bytes(b"new content for all three names")
    run(
        "rsync",
        *options,
        "--delete",
        "--inplace",
        "--checksum",
        "--modify-window=-1",
        f"{there}/",
        f"{back}/",
    )
    assert_same(there, back)


def tar(place: Place) -> None:
    options = ["--numeric-owner", "--xattrs", "--xattrs-include=*", "--sparse", "-p"]
    run("tar", *options, "-C", original(place), "-cf", place.root / "there.tar", ".")
    copied, back = place.root / "copied", place.root / "back"
    copied.mkdir()
    back.mkdir()
    run("tar", *options, "-C", copied, "-xf", place.root / "there.tar")
    assert_same(original(place), copied)
    run("tar", *options, "-z", "-C", copied, "-cf", place.root / "back.tar.gz", ".")
    run("tar", *options, "-C", back, "-xf", place.root / "back.tar.gz")
    assert_same(original(place), back)
    run("tar", "--compare", *options, "-C", back, "-f", place.root / "there.tar")
    # What was added later is all that an incremental archive takes.
    run("tar", "-C", back, "-g", place.root / "snapshot", "-cf", place.root / "full.tar", ".")
    (back / "later").write_text("later\n")
    said = run("tar", "-C", back, "-g", place.root / "snapshot", "-cvf", place.root / "more.tar", ".")
    assert [line for line in said.splitlines() if not line.endswith("/")] == ["./later"], said


def sparse_files(place: Place) -> None:
    """Holes come through as zeros, by all ways of cp and dd."""
    size = place.size(8, 512) << 20
    path = place.root / "sparse"
    with path.open("wb") as file:
        file.truncate(size)
        for offset in range(0, size, size // 8):
            file.seek(offset + 4_000)
            file.write(b"here")
    digest = digest_of(path)
    for way in ("auto", "always", "never"):
        run("cp", f"--sparse={way}", path, place.root / way)
        assert digest_of(place.root / way) == digest
    run("dd", f"if={path}", f"of={place.root / 'dd'}", "bs=64K", "conv=sparse,fsync", "status=none")
    run("truncate", "-s", str(size), place.root / "dd")
    assert digest_of(place.root / "dd") == digest
    (place.root / "always").write_bytes(b"short")
    run("truncate", "-s", "1M", place.root / "always")
    assert (place.root / "always").read_bytes() == b"short" + bytes((1 << 20) - 5)


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def direct_io(place: Place) -> None:
    """dd with O_DIRECT, O_SYNC and O_APPEND; what one way wrote the others read."""
    material = place.material / "bytes"
    if not material.exists():
        material.write_bytes(os.urandom(place.size(1, 64) << 20))
    path = place.root / "direct"
    run("dd", f"if={material}", f"of={path}", "bs=64K", "oflag=direct", "status=none")
    run("cmp", material, path)
    run(
        "dd", f"if={path}", f"of={place.root / 'sync'}", "bs=1M", "iflag=direct", "oflag=dsync", "status=none"
    )
    run("cmp", material, place.root / "sync")
    run(
        "dd",
        f"if={material}",
        f"of={place.root / 'sync'}",
        "bs=4K",
        "count=10",
        "oflag=append,direct",
        "conv=notrunc",
        "status=none",
    )
    assert (place.root / "sync").stat().st_size == material.stat().st_size + 40_960


def zip_and_unzip(place: Place) -> None:
    make_sources(place.root / "tree", place.size(60, 1_500))
    (place.root / "tree" / "link").symlink_to("p0")
    run("zip", "-qry", place.root / "all.zip", "tree", cwd=place.root)
    run("zip", "-q", "-d", place.root / "all.zip", "tree/p1/*")
    run("zip", "-qry", place.root / "all.zip", "tree/p1", cwd=place.root)
    run("unzip", "-q", place.root / "all.zip", "-d", place.root / "back")
    run("diff", "-r", place.root / "tree", place.root / "back" / "tree")
    run("unzip", "-tq", place.root / "all.zip")


def debian_package(place: Place) -> None:
    """A package is built of a tree, taken apart, installed into a root of its own, and removed."""
    package, into = place.root / "package", place.root / "into"
    make_sources(package / "usr/share/made", place.size(40, 1_000))
    (package / "usr/share/made/link").symlink_to("p0/m0.py")
    (package / "DEBIAN").mkdir()
    (package / "DEBIAN/control").write_text(
        "Package: made\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: made\n"
    )
    run("dpkg-deb", "--root-owner-group", "-Znone", "-b", package, place.root / "made.deb")
    run("dpkg-deb", "-x", place.root / "made.deb", place.root / "unpacked")
    run("diff", "-r", "--no-dereference", package / "usr", place.root / "unpacked" / "usr")
    for directory in ("var/lib/dpkg/updates", "var/lib/dpkg/info"):
        (into / directory).mkdir(parents=True)
    for file in ("status", "available"):
        (into / "var/lib/dpkg" / file).touch()
    dpkg = ["dpkg", f"--root={into}", "--force-not-root", "--log=/dev/null"]
    run(*dpkg, "-i", place.root / "made.deb")
    assert run(*dpkg, "--verify", "made") == ""
    run("diff", "-r", package / "usr", into / "usr")
    run(*dpkg, "-P", "made")
    assert not (into / "usr").exists()


def walkers(place: Place) -> None:
    """find, grep -r, du, ls -R, xargs, sort say of a tree what they say of its original."""
    tree, source = place.root / "tree", place.material / "tree"
    if not source.exists():
        make_sources(source, place.size(100, 3_000))
    run("cp", "-a", source, tree)
    for command in (
        ["find", ".", "-type", "f", "-size", "+2k", "-newermt", "2000-01-01"],
        ["find", ".", "-name", "m*7.py", "-printf", "%p %s %m %T@ %y\n"],
        ["grep", "-rc", "value_2 = 0.1", "."],
        ["du", "--apparent-size", "-bS", "."],
        ["ls", "-R", "."],
        ["sh", "-c", "find . -type f -print0 | xargs -0 sha256sum"],
    ):
        there, here = (sorted(run(*command, cwd=root).splitlines()) for root in (source, tree))
        if command[0] == "du":  # the size of a directory is each file system's own
            there, here = ([re.sub(r"^\d+", "", line) for line in lines] for lines in (there, here))
        assert there == here, command
    total = int(run("du", "-s", "--apparent-size", "-B1", tree).split()[0])
    assert total >= sum(path.stat().st_size for path in tree.rglob("*.py"))
    run("find", tree, "-name", "*3.py", "-delete")
    run("find", tree, "-depth", "-type", "d", "-empty", "-delete")
    run("rm", "-rf", tree)


CASES = [
    Case("cp -a, cp -rl, mv, rm -r", cp_archive, make_original),
    Case("rsync -aHAX there and back", rsync, make_original),
    Case("tar with all attributes", tar, make_original),
    Case("sparse files", sparse_files),
    Case("dd with O_DIRECT", direct_io),
    Case("zip, unzip", zip_and_unzip, packages=("zip", "unzip"), quick=False),
    Case("dpkg-deb, dpkg", debian_package),
    Case("find, grep -r, du, ls -R", walkers),
]
