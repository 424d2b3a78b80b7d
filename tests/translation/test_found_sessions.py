"""Open files: bugs that random histories and reading found, each with the shortest history that shows it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

import pytest

from crdt.blocks import BlockMap, digest_of, digest_of_inline
from crdt.facts import Ino
from crdt.rights import CAPABILITY
from tests.shell import VOLUME, Shell, conflict, entry_of, exchange, shells
from translation import merge_policy


def patch(shell: Shell, fh: int, offset: int, data: bytes) -> None:
    shell.world.tick()
    shell.fs.write(fh, offset, data)


# -- what a merge brought under an open file -----------------------------------------------------------


def test_a_save_over_an_open_file_settles_what_it_shows_and_not_what_a_merge_brought():
    """B's addition is merged at A, where an open file hides it; then a program at A saves by rename.

    The rename settled the newest version instead of the one that was shown: the addition was gone.
    """
    a, b = shells(0, 0)
    a.write("f", "one")
    b.hear(a)
    fh = a.open_file("f")
    b.append("f", ", two")
    a.hear(b)
    assert a.read("f") == b"one"
    a.write("f~", "saved")
    a.move("f~", "f")
    a.close(fh)
    assert sorted(exchange(a, b).values()) == ["one, two", "saved"]


def test_after_a_kill_a_file_shows_what_was_merged_while_it_was_open():
    """A merge brings a version that an open file hides; then the process is killed.

    Nothing ended the session, so nothing let the newer content show: the old one stayed for ever.
    """
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    b.open_file("f")
    a.write("f", "new")
    b.hear(a)
    assert b.read("f") == b"old"
    b.open()
    assert b.read("f") == b"new"
    assert exchange(a, b) == {"f": "new"}


CONTENTS = {"nothing": "", "a few bytes": "0123456789", "several blocks": "0123456789" * 4_000}


@pytest.mark.parametrize("texts", [("short", "big" * 4_000), ("big" * 4_000, "short")], ids="sb")
@pytest.mark.parametrize("base", CONTENTS)
def test_what_is_written_after_several_merges_extends_what_the_file_showed(base, texts):
    """Two versions come one after the other while the file is open; then a program writes and closes.

    Only what the last merge replaced was kept: the flush found its branch gone (ESTALE).
    """
    a, b = shells(0, 0)
    old = CONTENTS[base]
    a.write("f", old)
    b.hear(a)
    fh = b.open_file("f")
    for text in texts:
        a.write("f", text)
        b.hear(a)
    patch(b, fh, 0, b"B")
    b.close(fh)
    assert sorted(exchange(a, b).values()) == sorted([texts[-1], "B" + old[1:]])


@pytest.mark.parametrize("policy", [b"blocks", b"append"])
def test_what_shows_together_shows_after_a_close_though_it_came_while_the_file_was_open(policy: bytes):
    """B has heard of A's addition without its bytes, and adds to the file; they come while B has it open.

    They were kept back for the open file's sake, which goes on from B's version.  But as that led, too, the
    close let nothing show: at B the addition was missing until the next start.
    """
    a, b = shells(0, 0)
    a.write("f", "0")
    a.fs.setxattr(a.stat("f").ino, merge_policy.XATTR, policy)
    exchange(a, b)
    a.append("f", "A" * 40_000)
    b.hear(a, blocks=False)
    b.append("f", "B")
    fh = b.open_file("f")
    b.fetch(a)
    assert b.read("f") == b"0B"
    b.close(fh)
    a.hear(b)
    assert len(a.read("f")) > 40_000
    assert b.read("f") == a.read("f")
    assert b.replica.hiding() == []


@pytest.mark.parametrize("base", CONTENTS)
def test_a_file_that_is_open_is_renamed_and_merged_and_then_written(base):
    """The rename is a version, as it replaces another file; B's append extends that, while A still writes.

    A's flush did not find its branch, which had gone on by the rename (ESTALE).
    """
    a, b = shells(0, 0)
    old = CONTENTS[base]
    a.write("f", old)
    a.write("g", "replaced")
    b.hear(a)
    fh = a.open_file("f")
    a.move("f", "g")
    b.hear(a)
    b.append("g", "B")
    a.hear(b)
    assert a.read("g") == old.encode()
    patch(a, fh, 0, b"A")
    a.close(fh)
    assert sorted(exchange(a, b).values()) == sorted([old + "B", "A" + old[1:]])


def test_a_file_that_was_removed_while_open_is_a_file_again_once_a_merge_brings_it_back():
    """A removes a file that it has open; B's edit beats that.  Then another program at A writes into it.

    It wrote into what has no name: acknowledged, and lost.
    """
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    fh = a.open_file("f")
    a.remove("f")
    b.write("f", "from B")
    a.hear(b)
    a.append("f", " and more")
    a.close(fh)
    assert sorted(exchange(a, b).values()) == ["from B", "old and more"]


def test_what_brings_a_removed_file_back_tells_the_kernel_its_name():
    """B removed the file, so the kernel of A knows of none; A writes through its handle, and there is one.

    A local commit told only the names that its request was about, and lstat said ENOENT for ever.
    """
    a, b = shells(0, 0)
    a.write("f", "text")
    b.hear(a)
    fh = a.open_file("f")
    b.remove("f")
    assert exchange(a, b) == {}
    a.replica.take_changes()
    patch(a, fh, 0, b"more")
    a.close(fh)
    changes = a.replica.take_changes()
    assert (1, b"f") in changes.entries
    assert set(changes.inodes) == {1, a.stat("f").ino}


def test_the_entry_that_an_open_file_shows_is_renamed_over_that_file():
    """A merge lets another branch lead; an open file shows its own, which stands beside it as an entry too.

    Both were the same branch, so the rename did nothing, and later the other branch took the name.
    """
    a, b = shells(0, 0)
    a.create("f")
    b.hear(a)
    b.write("f", "from B")
    fh = b.open_file("f")
    a.write("f", "from A")
    b.hear(a)
    (entry,) = (name.decode() for name, _ in b.list() if name != b"f")
    b.move(entry, "f")
    assert entry not in b.shows
    b.close(fh)
    shown = exchange(a, b)
    assert shown.pop("f") == "from B"
    assert list(shown.values()) == ["from A"]


def digest_is_right(shell: Shell, path: str) -> bool:
    shown = shell.fs.base.shown(Ino(shell.stat(path).ino))
    if shown.inline is not None:
        return shown.digest == digest_of_inline(VOLUME.digest_key, shown.inline)
    blocks = tuple(BlockMap(shell.replica.state, shown.map_ino, shown.map).items())
    return shown.digest == digest_of(VOLUME.digest_key, shown.size, blocks)


@pytest.mark.parametrize("zeros", [20, 100_000])
@pytest.mark.parametrize("entry_first", [True, False])
def test_two_programs_write_one_branch_under_two_names_and_both_are_kept(zeros: int, entry_first: bool):
    """B has f open; a merge lets A's branch lead, so B's shows as f to who has it open, and as an entry.

    What was written to the entry was overwritten through f, by a program that had never seen it; of a content
    in blocks the version had a digest that was not its content's.  They are two descriptors of one file.
    """
    a, b = shells(0, 0)
    a.create("f")
    b.hear(a)
    b.write("f", "0" * zeros)
    fh = b.open_file("f")
    a.write("f", "from A")
    b.hear(a)
    (entry,) = b.shows.keys() - {"f"}
    other = b.open_file(entry)
    b.replica.take_changes()
    writes = [(other, 2, b"entry"), (fh, 12, b"open")]
    for handle, offset, data in writes if entry_first else reversed(writes):
        patch(b, handle, offset, data)
    first, left = (other, fh) if entry_first else (fh, other)
    b.close(first)
    both = "00entry00000open".ljust(zeros, "0")
    assert b.fs.read(left, 0, 200_000).decode() == both
    assert b.replica.take_changes().inodes[b.fs.handles[left].ino], "the kernel keeps what it has read"
    b.close(left)
    assert sorted(exchange(a, b).values()) == [both, "from A"]
    assert all(digest_is_right(shell, entry) for shell in (a, b))


REQUESTS: dict[str, Callable[[Shell, int], object]] = {
    "rename": lambda shell, _: shell.move("log", "new"),
    "link": lambda shell, _: shell.link("log", "new"),
    "chmod": lambda shell, ino: shell.fs.setattr(ino, mode=0o600),
    "setxattr": lambda shell, ino: shell.fs.setxattr(ino, CAPABILITY, b"any"),
    "rename onto itself": lambda shell, _: shell.move("log", "log"),
}


@pytest.mark.parametrize("request_name", REQUESTS)
def test_the_kernel_is_told_what_any_request_uncovers_and_not_a_second_later(request_name: str):
    """A program appends to a log at A, and B's line comes before what it wrote is a version.

    A request that made it one ended the session, and the log showed both lines.  But only flush, fsync and
    their like told the kernel; after others it kept the old content until the next tick, also when
    `elmer sync` had waited for all that was told.
    """
    a, b = shells(0, 0)
    a.write("log", "old\n")
    ino = a.stat("log").ino
    a.fs.setxattr(ino, merge_policy.XATTR, b"append")
    b.hear(a)
    fh = a.open_file("log", os.O_WRONLY | os.O_APPEND)
    a.fs.write(fh, 0, b"from A\n")
    b.append("log", "from B\n")
    a.hear(b)
    assert a.read("log") == b"old\nfrom A\n"
    a.replica.take_changes()
    told: list[tuple[bool | None, int]] = []

    def tell() -> None:
        told.append((a.replica.take_changes().inodes.get(ino), a.fs.getattr(ino).size))

    a.replica.on_commit = tell
    REQUESTS[request_name](a, ino)
    whole = len("old\nfrom A\nfrom B\n")
    assert a.fs.getattr(ino).size == whole
    assert (True, whole) in told
    assert not a.replica.take_changes()


# -- a file or an entry that was removed while open ------------------------------------------------------


def test_what_a_full_disk_kept_from_the_facts_does_not_bring_a_removed_file_back():
    """The close fails, what was written stays gathered without a descriptor, and the file is removed.

    It was a version at the next tick: one that the removal had not seen, so the file was back.
    """
    a, b = shells(0, 0)
    a.write("f", "text")
    fh = a.open_file("f")
    patch(a, fh, 0, b"more")
    a.store.is_full = True
    with pytest.raises(OSError, match="No space"):
        a.fs.flush(fh)
    with pytest.raises(OSError, match="No space"):
        a.fs.release(fh)
    a.store.is_full = False
    a.remove("f")
    a.fs.tick()
    a.fs.close()
    assert exchange(a, b) == {}


def test_who_opens_a_file_that_a_write_brought_back_writes_to_it():
    """A's open file shows a branch that is an entry, too.  The entry is made a file, opened and removed; what
    is written through the first file brings it back.

    What was then written to it by its name was thrown away with the last close: it was removed while open.
    """
    a, b = shells(0, 0)
    a.create("f")
    exchange(a, b)
    fh = a.open_file("f")
    patch(a, fh, 0, b"from A")
    a.fs.fsync(fh)
    b.write("f", "from B")
    a.hear(b)
    (entry,) = a.shows.keys() - {"f"}
    left_open = a.open_file(entry)
    a.chmod(entry, 0o600)
    a.remove(entry)
    patch(a, fh, 0, b"more A")
    a.fs.flush(fh)
    assert entry in a.shows
    a.append(entry, ", by its name")
    a.close(left_open)
    a.close(fh)
    assert exchange(a, b) == {"f": "from B", entry: "more A, by its name"}


def test_what_is_written_to_a_removed_entry_takes_nothing_from_what_brings_it_back():
    """As before, in blocks, and the removed entry is written to before it is back.

    That overwrote a part of what had brought it back.
    """
    a, b = shells(0, 0)
    a.create("f")
    exchange(a, b)
    fh = a.open_file("f")
    patch(a, fh, 0, b"A" * 6000)
    a.fs.fsync(fh)
    b.write("f", "from B")
    a.hear(b)
    (entry,) = a.shows.keys() - {"f"}
    left_open = a.open_file(entry)
    a.chmod(entry, 0o600)
    a.remove(entry)
    patch(a, left_open, 3000, b"nobody's")
    patch(a, fh, 6000, b", and more")
    a.fs.flush(fh)
    assert a.stat(entry).size == 6010
    a.close(left_open)
    a.close(fh)
    assert exchange(a, b) == {"f": "from B", entry: "A" * 6000 + ", and more"}


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_an_open_entry_that_a_peer_removes_is_read_on(flags):
    """The number of an entry stands for a branch, which the removal settled: no stat or read of it any more.

    And whatever was merged from then on failed, after it was committed.
    """
    a, b, entry = conflict()
    fh = a.open_file(entry, flags)
    ino = a.stat(entry).ino
    b.remove(entry)
    a.hear(b)
    assert a.fs.read(fh, 0, 100) == b"from A"
    attributes = a.fs.getattr(ino, fh)
    assert (attributes.nlink, attributes.size) == (0, 6)
    b.write("f", "later")
    a.hear(b)
    a.close(fh)
    assert exchange(a, b) == {"f": "later"}


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_an_open_entry_is_removed_here_and_read_on(flags):
    """`rm` of an entry that was open for reading removed it and then said ENOENT."""
    a, b, entry = conflict()
    fh = a.open_file(entry, flags)
    ino = a.stat(entry).ino
    a.remove(entry)
    assert a.fs.read(fh, 0, 100) == b"from A"
    assert a.fs.getattr(ino, fh).nlink == 0
    b.hear(a)
    b.write("f", "later")
    a.hear(b)
    a.close(fh)
    assert exchange(a, b) == {"f": "later"}


@pytest.mark.parametrize("truncates", [False, True])
def test_an_orphan_that_stays_for_what_was_merged_is_written_to_while_a_descriptor_is_left(truncates: bool):
    """A has an orphan open and removes it, not having seen what B added: so it stays.

    What a program then wrote to it went where an open file goes that was removed: nowhere.
    """
    a, b = shells(0, 0)
    a.write("f", "text")
    a.link("f", "g")
    b.hear(a)
    a.remove("f")
    b.remove("g")
    exchange(a, b)
    (name,) = (name.decode() for name, _ in a.list(a.stat(".elmer/orphans").ino))
    path = f".elmer/orphans/{name}"
    fh = a.open_file(path)
    b.append(path, ", B")
    a.hear(b)
    a.remove(path)
    if truncates:
        a.fs.setattr(a.stat(path).ino, size=0)
    else:
        a.append(path, ", A")
    a.close(fh)
    exchange(a, b)
    directory = a.stat(".elmer/orphans").ino
    shown = [a.read(f".elmer/orphans/{name.decode()}") for name, _ in a.list(directory)]
    assert sorted(shown) == [b"" if truncates else b"text, A", b"text, B"]


# -- a descriptor that reads and appends ----------------------------------------------------------------

PAGE = 4096


def test_a_page_of_a_mapping_goes_where_it_is_from_though_its_descriptor_appends():
    """A program writes to a mapping of a file that it opened to read and append.

    The kernel writes the page back through that descriptor: it was appended, and lost where it belongs.
    """
    (a,) = shells(0)
    a.write("f", "0" * PAGE + "1" * PAGE + "2")
    fh = a.open_file("f", os.O_RDWR | os.O_APPEND)
    patch(a, fh, PAGE, b"x" * PAGE)
    patch(a, fh, 2 * PAGE + 1, b"appended")
    patch(a, fh, 2 * PAGE, b"yappended")
    a.close(fh)
    assert a.read("f").decode() == "0" * PAGE + "x" * PAGE + "yappended"


def test_what_is_appended_goes_to_the_end_though_the_kernel_knows_of_an_older_one():
    """Also where that was at the beginning of a page, so that it looks like one that is written back."""
    a, b = shells(0, 0)
    a.write("f", "0" * PAGE)
    b.hear(a)
    fh = b.open_file("f", os.O_RDWR | os.O_APPEND)
    a.append("f", "1" * PAGE)
    b.hear(a)
    patch(b, fh, PAGE, b"2" * PAGE)
    patch(b, fh, 2 * PAGE, b"3" * PAGE)
    b.close(fh)
    assert b.read("f").decode() == "".join(digit * PAGE for digit in "0123")


def test_what_the_kernel_was_told_since_is_the_end_that_counts():
    (a,) = shells(0)
    a.write("f", "0" * 2 * PAGE)
    fh = a.open_file("f", os.O_RDWR | os.O_APPEND)
    other = a.open_file("f")
    a.fs.setattr(a.stat("f").ino, size=PAGE)
    patch(a, fh, PAGE, b"1" * PAGE)
    patch(a, other, 3 * PAGE, b"3" * PAGE)
    patch(a, fh, 2 * PAGE, b"2" * PAGE)
    patch(a, fh, 4 * PAGE, b"4")
    for each in (fh, other):
        a.close(each)
    assert a.read("f").decode() == "".join(digit * PAGE for digit in "0123") + "4"
    assert not a.fs.ends.ends


# -- what was removed while it was open ----------------------------------------------------------------


def test_what_is_written_to_an_entry_that_shows_on_after_its_removal_is_kept():
    """B has a conflict entry open, which hides what A adds to that; then B removes the entry.  A's addition,
    which B had not seen, shows there on.  What a program at B then wrote to it was taken for something
    written to a file without a name: it was gone with the last close."""
    a, b, entry = conflict()
    fh = b.open_file(entry)
    a.append(entry, ", more")
    b.hear(a)
    b.remove(entry)
    (left,) = b.shows.keys() - {"f"}
    b.append(left, ", and B")
    b.close(fh)
    assert sorted(exchange(a, b).values()) == ["from A, and B", "from A, more", "from B"]


def test_what_a_peer_wrote_to_a_branch_stays_where_an_open_file_goes_on_from_before():
    """B has f open, whose branch is a conflict entry since A's content came, and removes that entry.  A wrote
    to the entry, and renamed it over f.  That made the branch a file of its own, in which nothing was left of
    what B's file went on from: what B wrote replaced the block that A had changed."""
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    fh = b.open_file("f")
    b.write("f", "0123456789" * 600)
    a.write("f", "from A")
    b.hear(a)
    a.hear(b)
    entry = entry_of(a.shows, "f", "B")
    of_a = a.open_file(entry)
    patch(a, of_a, 10, b"A")
    a.close(of_a)
    patch(b, fh, 20, b"B")
    a.move(entry, "f")
    b.remove(entry)
    b.hear(a)
    b.close(fh)
    shown = exchange(a, b)
    assert sorted((text[10], text[20]) for text in shown.values() if len(text) == 6000) == [
        ("0", "B"),
        ("A", "0"),
    ]


def test_twins_part_where_an_open_file_that_is_older_than_both_is_written_to():
    """A program at B has f open while another one saves over it, with the content that A wrote into f.  A's
    edit brings f back, and the new file hides under it; but at B f shows what is open.  The next write there
    changed f alone, and the new file came out beside it."""
    a, b = shells(0, 0)
    a.write("f", "one")
    b.hear(a)
    fh = b.open_file("f")
    b.append("f", ", two")
    a.write("f", "one")
    b.save("f", "one")
    b.hear(a)
    assert b.shows == {"f": "one, two"}
    b.write("f", "three")
    assert b.shows == {"f": "three"}
    b.close(fh)
    assert exchange(a, b) == {"f": "three"}


def test_a_twin_whose_newest_content_an_open_file_hides_gets_mode_and_owner_of_the_file():
    """A program at A has f open, and B writes the same again.  Another file is renamed over f: B's edit,
    unseen at A, brings f back, which hides under the new file.  To remove it with chmod(2) did not make it
    go, and so nothing came of that: twins show the mode that both leave."""
    a, b = shells(0, 0)
    b.write("c", "new")
    b.write("f", "old")
    a.hear(b)
    fh = a.open_file("f")
    b.write("f", "old")
    a.hear(b)
    a.move("c", "f")
    a.chmod("f", 0o755)
    assert stat.S_IMODE(a.stat("f").mode) == 0o755
    a.fs.setattr(a.stat("f").ino, uid=7)
    assert a.shows == {"f": "new"}
    a.close(fh)
    assert exchange(a, b) == {"f": "new"}
    assert (b.stat("f").uid, stat.S_IMODE(b.stat("f").mode)) == (7, 0o755)


def test_a_file_that_replaces_the_entry_of_its_own_branch_keeps_what_it_shows():
    """A has f open, which shows A's branch, though B's leads since a merge; that branch is a conflict entry,
    too.  Renamed over that, f chose B's content, which A was not shown, over what it showed."""
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    fh = a.open_file("f")
    a.write("f", "from A")
    b.write("f", "from B")
    a.hear(b)
    entry = entry_of(a.shows, "f", "A")
    patch(a, fh, 6, b", more")
    a.move("f", entry)
    assert a.read(entry) == b"from A, more"
    a.close(fh)
    assert sorted(exchange(a, b).values()) == ["from A, more", "from B"]


@pytest.mark.parametrize("order", ["BC", "CB"])
@pytest.mark.parametrize("splits", ["B", "C"])
def test_what_an_open_file_goes_on_from_stays_when_what_came_of_it_is_two_files(order, splits):
    """A has f open; B and C write into it, and one of them makes the entry that the other one's content is a
    file of its own.  What A goes on from was kept with the content that left: with A's close a block that the
    other one had changed was as it had been."""
    peers = dict(zip("ABC", shells(0, 0, 0), strict=True))
    a, b, c = peers.values()
    a.write("f", "0123456789" * 600)
    exchange(a, b, c)
    fh = a.open_file("f")
    patch(a, fh, 0, b"A")
    for offset, name in enumerate(order, 1):
        shell = peers[name]
        fd = shell.open_file("f")
        patch(shell, fd, offset, name.encode())
        shell.close(fd)
    a.hear(*(peers[name] for name in order))
    b.hear(c)
    c.hear(b)
    (entry,) = peers[splits].shows.keys() - {"f"}
    peers[splits].chmod(entry, 0o600)
    a.hear(peers[splits])
    assert a.fs.read(fh, 0, 4) == b"A123"
    a.close(fh)
    found = {text[0] + text[1] + text[2] for text in exchange(a, b, c).values()}
    assert found == {"A12", f"0{order[0]}2", f"01{order[1]}"}


def test_what_is_written_to_an_entry_that_a_merge_brought_back_is_kept():
    """A program at B has a conflict entry open and writes to it after it was removed; then A's addition,
    which B had not seen, brings it back.  What was written went with the next version of any other file."""
    a, b, entry = conflict()
    fh = b.open_file(entry)
    a.append(entry, ", more")
    b.remove(entry)
    patch(b, fh, 6, b" and B")
    b.hear(a)
    b.write("other", "text")
    assert b.fs.read(fh, 0, 99) == b"from A and B"
    b.close(fh)
    assert sorted(exchange(a, b).values()) == ["from A and B", "from A, more", "from B", "text"]


@pytest.mark.parametrize("text", ["!", "more" * 3_000])
def test_an_entry_that_is_open_before_its_content_comes_stays_as_it_was_opened(text):
    """B opens a conflict entry whose blocks are not here, and the next version of its branch comes with them.
    What B goes on from was in no map any more: what B wrote replaced part of the newer one."""
    a, b = shells(0, 0)
    a.write("f", "0123456789" * 600)
    b.hear(a)
    a.append("f", "A" * 6_000)
    b.hear(a, blocks=False)
    b.append("f", "B")
    (entry,) = [os.fsdecode(name) for name, _ in b.list() if name != b"f"]
    fh = b.open_file(entry)
    fa = a.open_file("f")
    patch(a, fa, 7_000, b"a")
    a.fs.flush(fa)
    patch(a, fa, 12_000, text.encode())
    a.close(fa)
    b.hear(a)
    assert b.fs.read(fh, 6_999, 3) == b"AAA"
    patch(b, fh, 7_002, b"b")
    b.close(fh)
    found = {(value[7_000], value[7_002]) for value in exchange(a, b).values() if len(value) > 7_002}
    assert found == {("a", "A"), ("A", "b")}


@pytest.mark.parametrize("act", ["remove", "replace", "remove a file of its own"])
def test_the_second_copy_of_what_an_open_file_shows_is_not_the_only_one(act):
    """A has f open, which shows A's branch, though B's leads since a merge; that branch is a conflict entry,
    too, with the same content.  Who removed it as a copy had nothing of it left when f was closed."""
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    fh = a.open_file("f")
    a.write("f", "from A")
    b.write("f", "from B")
    a.hear(b)
    (entry,) = a.shows.keys() - {"f"}
    assert a.shows == {"f": "from A", entry: "from A"}
    if act.endswith("own"):
        a.chmod(entry, 0o600)
    if act.startswith("replace"):
        a.save(entry, "saved")
        assert a.shows == {"f": "from A", entry: "saved"}
    else:
        a.remove(entry)
        assert a.shows == {"f": "from A"}
    a.close(fh)
    left = ["saved"] * act.startswith("replace")
    assert sorted(exchange(a, b).values()) == ["from A", "from B", *left]
