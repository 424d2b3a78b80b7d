"""Law L2: what a request changed besides what it was asked to, each by the shortest history that did it."""

from __future__ import annotations

import stat

import pytest

from tests.shell import entry_of, exchange, shells

# -- files -----------------------------------------------------------------------------------------------


def test_removing_one_name_of_a_file_that_was_split_off_leaves_the_other():
    """A link made the conflict entry a file of its own, whose content B then settles by a save: only the link
    names that file now, for the name that the split gave keeps nothing alive."""
    a, b, c = peers = shells(0, 0, 0)
    b.create("f")
    exchange(*peers)
    b.write("f", "B")
    c.write("f", "C")
    a.hear(b, c)
    entry = entry_of(a.shows, "f", "B")
    a.link(entry, "linked")
    b.write("f~", "saved")
    b.move("f~", "f")
    a.hear(b)
    before = a.shows
    a.remove("linked")
    assert a.shows == {path: text for path, text in before.items() if path != "linked"}
    assert exchange(*peers) == a.shows


def test_removing_a_file_leaves_what_was_chosen_over_it_elsewhere():
    """A removes one of two files of one name, B the other; B's choice was of what it removes in the end."""
    a, b = peers = shells(0, 0)
    b.write("f", "B")
    a.write("f", "A")
    exchange(*peers)
    a.mkdir("d")
    b.remove("f")
    a.remove(entry_of(a.shows, "f", "B"))
    b.move(entry_of(b.shows, "f", "B"), "d")
    b.hear(a)
    assert b.shows["f"] == "A"
    b.remove(entry_of(b.shows, "d", "B"))
    assert b.shows == {"d": "dir", "f": "A"}
    assert exchange(*peers) == b.shows


def test_a_link_to_a_file_that_an_edit_brought_back_brings_no_choice_back():
    """A and B remove what they had written, C had chosen among the two, and D's edit nobody had seen.

    The choice went with what it was chosen among, and came out again as soon as the file had a live name.
    """
    a, b, c, d = peers = shells(0, 0, 0, 0)
    a.create("f")
    exchange(*peers)
    a.write("f", "A")
    b.write("f", "B")
    c.hear(a, b)
    c.remove(entry_of(c.shows, "f", "A"))
    a.remove("f")
    b.remove("f")
    d.write("f", "D")
    assert exchange(*peers) == {"f": "D"}
    d.link("f", "linked")
    assert d.shows == {"f": "D", "linked": "D"}
    assert exchange(*peers) == d.shows


def test_a_name_that_becomes_free_in_one_member_of_a_union_is_not_taken_in_another():
    """C's file has the name that A's conflict entry would have, in another directory of the union."""
    a, b, c = peers = shells(0, 0, 0)
    c.mkdir("d")
    c.write("d/f.conflict-A-3", "C")
    a.mkdir("d")
    b.mkdir("d")
    a.write("d/f", "A")
    b.write("d/f", "B")
    before = exchange(*peers)
    assert before["d/f.conflict-A-3-2"] == "A"
    c.remove("d/f.conflict-A-3")
    assert c.shows == {path: text for path, text in before.items() if path != "d/f.conflict-A-3"}
    assert exchange(*peers) == c.shows


def test_a_link_to_a_file_that_an_edit_brought_back_lets_no_twin_out():
    """C made a directory at the name, so the file that B's edit brought back is a conflict entry, and under
    it hides A's file, which has what B wrote first.  A pin held the name and left the twin behind."""
    a, b, c = peers = shells(0, 0, 0)
    a.create("f")
    exchange(*peers)
    b.write("f", "B")
    b.append("f", ", more")
    c.remove("f")
    c.mkdir("f")
    a.remove("f")
    a.symlink("s", "nowhere")  # of which a file that replaces it is no continuation
    a.move("s", "f")
    a.remove("f")
    a.write("g", "B")
    a.move("g", "f")
    exchange(*peers)
    entry = entry_of(a.shows, "f", "A")
    assert a.shows == {"f": "dir", entry: "B, more"}
    a.link(entry, "linked")
    assert a.shows == {"f": "dir", entry: "B, more", "linked": "B, more"}
    assert exchange(*peers) == a.shows


def test_a_merge_policy_is_set_while_the_blocks_of_a_head_are_not_here():
    """The two heads show together from then on.  To hold what one of them showed had no end."""
    a, b = peers = shells(0, 0)
    a.create("f")
    exchange(*peers)
    b.write("f", "B")
    a.write("f", "A" * 40_000)
    b.hear(a, blocks=False)
    b.fs.setxattr(b.stat("f").ino, b"user.elmer.merge", b"blocks")
    exchange(*peers)
    assert a.shows.keys() == {"f"}


def test_a_write_to_a_conflict_entry_lets_no_twin_of_the_file_beside_it_out():
    """A wrote 1, then 2, and B 2, then 1: so neither hides the other.  C's file of the same name holds 2.

    With A's next write the branch of B has nothing to add to A's, and would hide; before that was held, what
    came out was: C's file, as if it had come back.
    """
    a, b, c = peers = shells(0, 0, 0)
    a.create("f")
    b.hear(a)
    for shell, texts in ((a, "12"), (b, "21"), (c, "2")):
        for text in texts:
            shell.write("f", text)
    before = exchange(*peers)
    entry = entry_of(before, "f", "A")
    assert before == {"f": "1", entry: "2"}
    a.append(entry, ", more")
    assert a.shows == {"f": "1", entry: "2, more"}
    assert exchange(*peers) == a.shows


def test_a_content_stays_that_hides_once_the_entry_of_the_nearest_fork_is_gone():
    """C wrote m, then x; B p, and on p A q and B m.  As long as A's branch is there that B parted from last,
    B's m is no part of what C did.  A's entry becomes a file of its own.

    B's m hid under C's x, and to write it once more, as often as it was done, did not help: chmod failed.
    """
    a, b, c = peers = shells(0, 0, 0)
    a.create("f")
    exchange(*peers)
    c.write("f", "m")
    c.write("f", "x")
    b.write("f", "p")
    a.hear(b)
    a.write("f", "q")
    b.write("f", "m")
    before = exchange(*peers)
    entries = entry_of(before, "f", "A"), entry_of(before, "f", "C")
    assert before == {"f": "m", entries[0]: "q", entries[1]: "x"}
    a.chmod(entries[0], 0o600)
    assert a.shows == before
    assert exchange(*peers) == before


# -- what an open file brings back -----------------------------------------------------------------------


def test_what_an_open_file_brings_back_takes_no_name_from_the_file_that_replaced_it():
    """A has `f` open, whose branch a merge made the conflict entry, when it is moved; so the entry is a file
    of its own, on whose branch the open file goes on.  It is replaced by a save, then the open file is
    written to: that brought it back at its name, and the saved file was named anew."""
    a, b = peers = shells(0, 0)
    a.create("f")
    exchange(*peers)
    a.write("f", "A")
    fh = a.open_file("f")
    b.write("f", "B")
    a.hear(b)
    entry = entry_of(a.shows, "f", "A")
    a.move("f", "g")
    a.save(entry, "saved")
    assert a.shows == {entry: "saved", "g": "A"}
    a.world.tick()
    a.fs.write(fh, 1, b", more")
    a.fs.flush(fh)
    (back,) = a.shows.keys() - {entry, "g"}
    assert a.shows == {entry: "saved", back: "A, more", "g": "A, more"}
    a.close(fh)
    assert exchange(*peers) == {entry: "saved", back: "A, more", "g": "B"}


def test_a_removed_backup_whose_newest_content_was_not_shown_takes_no_name():
    """A moves `f` away while it has it open, and makes another `f`.  The open file hides that B settled its
    conflict with A, so the removal of what was `f` has not seen that: it came back at the name, and as what
    was written last after their fork it took the name from the new `f`."""
    a, b = peers = shells(0, 0)
    a.create("f")
    exchange(*peers)
    a.write("f", "A")
    fh = a.open_file("f")
    b.write("f", "B")
    a.move("f", "g")
    b.hear(a)
    b.remove(entry_of(b.shows, "g", "A"))
    a.hear(b)
    a.write("f", "new")
    a.remove("g")
    edited = entry_of(a.shows, "f", "B")
    assert a.shows["f"] == "new"
    a.close(fh)
    assert exchange(*peers) == {"f": "new", edited: "B"}


def test_a_removed_link_whose_newest_content_was_not_shown_takes_no_name():
    """As above, of a backup that is a link, and a new `f` that was saved over the old one."""
    a, b = peers = shells(0, 0)
    a.write("f", "old")
    a.link("f", "g")
    exchange(*peers)
    fh = a.open_file("g")
    a.save("f", "new")
    b.append("g", ", more")
    a.hear(b)
    a.remove("g")
    edited = entry_of(a.shows, "f", "B")
    assert a.shows["f"] == "new"
    a.close(fh)
    assert exchange(*peers) == {"f": "new", edited: "old, more"}


# -- directories -------------------------------------------------------------------------------------------


def test_the_mode_of_a_union_stays_when_a_removed_member_goes_with_what_was_inside():
    """Only the member that B removed has the bits that C's chmod did not set."""
    a, b, c = peers = shells(0, 0, 0)
    b.mkdir("d")
    exchange(*peers)
    a.create("d/f")
    b.rmdir("d")
    b.mkdir("d")
    c.hear(b)
    c.chmod("d", 0o777)
    b.hear(a, c)
    assert b.stat("d").mode & 0o777 == 0o755
    b.remove("d/f")
    assert b.stat("d").mode & 0o777 == 0o755
    exchange(*peers)
    assert {shell.stat("d").mode & 0o777 for shell in peers} == {0o755}


def test_a_removed_directory_that_leads_a_union_keeps_its_number_when_it_is_empty():
    """Both members were removed, and show for what is inside; the older one gives the number."""
    a, b, c = peers = shells(0, 0, 0)
    a.mkdir("d")
    b.mkdir("d")
    exchange(*peers)
    number = c.stat("d").ino
    a.create("d/a")
    b.create("d/b")
    c.rmdir("d")
    exchange(*peers)
    assert c.stat("d").ino == number
    for path in ("d/a", "d/b"):
        c.remove(path)
        assert c.stat("d").ino == number
    assert exchange(*peers) == {"d": "dir"}


def test_a_directory_that_an_open_file_brings_back_takes_no_rights_from_the_one_that_stands_there():
    """B removes `d`, in which A has a file open, and A makes another `d`.  What is written to the file brings
    back the first one, which would be one with the second, and take rights away; to hold the mode had no
    end, and the program that wrote got an error."""
    a, b = peers = shells(0, 0)
    a.mkdir("d")
    a.chmod("d", 0o700)
    a.write("d/f", "old")
    exchange(*peers)
    fh = a.open_file("d/f")
    b.remove("d/f")
    b.rmdir("d")
    a.hear(b)
    a.mkdir("d")
    stood = a.stat("d")
    a.world.tick()
    a.fs.write(fh, 0, b"new")
    a.close(fh)
    shown = exchange(*peers)
    (aside,) = (path for path, what in shown.items() if what == "dir" and path != "d")
    assert shown == {"d": "dir", aside: "dir", f"{aside}/f": "new"}
    assert (a.stat("d").ino, stat.S_IMODE(a.stat("d").mode)) == (stood.ino, 0o755)
    assert stat.S_IMODE(a.stat(aside).mode) == 0o700


def test_a_file_that_comes_back_in_a_directory_of_a_union_takes_no_name_there():
    """C removes `d`, in which A has `f` open, and B's `d` with an older `f` takes its place.  What is written
    to the file brings back A's `d`, one with B's: what stood there was looked for in A's directory alone."""
    a, b, c = peers = shells(0, 0, 0)
    b.mkdir("d")
    b.write("d/f", "B")
    a.mkdir("d")
    a.write("d/f", "A")
    c.hear(a)
    fh = a.open_file("d/f")
    c.remove("d/f")
    c.rmdir("d")
    a.hear(c, b)
    assert a.shows == {"d": "dir", "d/f": "B"}
    a.world.tick()
    a.fs.write(fh, 1, b", more")
    a.close(fh)
    shown = exchange(*peers)
    assert shown == {"d": "dir", "d/f": "B", entry_of(shown, "d/f", "A"): "A, more"}


def test_what_hides_in_a_log_stays_hidden_when_the_conflict_around_it_goes():
    """A and B append the same to a log, and C edits it: so each content is for itself, and of the equal ones
    one shows.  With C's a file of its own all that is left was appended, and what B had added came out."""
    a, b, c = peers = shells(0, 0, 0)
    a.create("log")
    a.fs.setxattr(a.stat("log").ino, b"user.elmer.merge", b"append")
    a.write("log", "log:")
    exchange(*peers)
    c.write_at("log", "LOG:")
    a.append("log", "same")
    b.append("log", "same")
    shown = exchange(*peers)
    entry = entry_of(shown, "log", "C")
    assert shown == {"log": "log:same", entry: "LOG:"}
    a.fs.setxattr(a.stat(entry).ino, b"user.k", b"1")
    assert a.shows == shown
    assert exchange(*peers) == shown


@pytest.mark.parametrize("what", ["a file", "another user's directory", "a directory that was moved there"])
def test_a_directory_that_an_open_file_brings_back_takes_no_name(what):
    """As above, where what stands at the name is nothing that is one directory with what comes back."""
    a, b = peers = shells(0, 0)
    a.mkdir("d")
    a.write("d/f", "old")
    exchange(*peers)
    fh = a.open_file("d/f")
    b.remove("d/f")
    b.rmdir("d")
    a.hear(b)
    if what == "a file":
        a.create("d")
    elif what == "another user's directory":
        a.mkdir("d", uid=7)
    else:
        a.mkdir("e")
        a.move("e", "d")
    stood = a.stat("d").ino
    a.world.tick()
    a.fs.write(fh, 0, b"new")
    a.close(fh)
    assert a.stat("d").ino == stood
    (back,) = (path for path in exchange(*peers) if path.endswith("/f"))
    assert back != "d/f"
    assert a.read(back) == b"new"
    assert a.stat("d").ino == stood


def test_a_write_to_a_conflict_entry_of_a_log_leaves_the_log_alone():
    """A and B added the same to a log, of which one shows, for there is another content beside it.  Then that
    is written over, and is equal, too.  With it a file of its own, what B had added came out in the log."""
    a, b = shells(0, 0)
    a.create("log")
    a.fs.setxattr(a.stat("log").ino, b"user.elmer.merge", b"append")
    a.write("log", "1")
    b.hear(a)
    b.append("log", "1")
    a.write("log", "")
    entry = entry_of(exchange(a, b), "log", "B")
    a.append("log", "2")
    b.append("log", "2")
    assert exchange(a, b) == {"log": "2", entry: "11"}
    b.write(entry, "2")
    assert b.shows == {"log": "2", entry: "2"}
    assert exchange(a, b) == {"log": "2", entry: "2"}


@pytest.mark.parametrize("order", ["ABC", "ACB", "BAC", "BCA", "CAB", "CBA"])
@pytest.mark.parametrize("act", ["remove the file", "move an entry", "link an entry", "chmod an entry"])
def test_what_hides_under_another_entry_does_not_come_out_with_the_branch_that_it_is_on(act, order):
    """All three add to one conflict entry.  B and C add the same, and B adds more: C's content hides under
    B's entry.  It is on the branch of the entry that they added to: where that became a file of its own,
    C's content came along, and showed there."""
    peers = dict(zip("ABC", shells(0, 0, 0), strict=True))
    a, b, c = peers.values()
    a.create("f")
    exchange(a, b, c)
    a.write("f", "x")
    c.write("f", "file")
    entry = entry_of(exchange(a, b, c), "f", "A")
    for name in order:
        peers[name].append(entry, "a" if name == "A" else "b")
    b.append(entry, "b")
    shown = exchange(a, b, c)
    assert sorted(shown.values()) == ["file", "xa", "xbb"]
    if act == "remove the file":
        a.remove("f")
        want = {path: text for path, text in shown.items() if path != "f"}
    elif act == "move an entry":
        a.move(entry, "g")
        want = {"g" if path == entry else path: text for path, text in shown.items()}
    elif act == "link an entry":
        a.link(entry, "g")
        want = {**shown, "g": shown[entry]}
    else:
        a.chmod(entry, 0o600)
        want = shown
    assert a.shows == want
    assert exchange(a, b, c) == want


def test_a_choice_of_what_heads_show_together_hides_what_that_hides():
    """Under f a file shows of which each block is a register, and what A and B wrote to it shows together.
    That is like no other content; so another f hides under it, which began with what it holds now.  An entry
    beside is removed, which chooses this file: as a version of what showed it was a content like others, and
    the file that hid came out."""
    a, b, c = peers = shells(0, 0, 0)
    a.create("a")
    a.fs.setxattr(a.stat("a").ino, b"user.elmer.merge", b"blocks")
    a.write("a", "1")
    exchange(*peers)
    b.write("f", "3")
    b.write("f", "1")
    c.write("f", "4")
    a.link("a", "f")
    b.write("a", "")
    a.write("a", "3")
    shown = exchange(*peers)
    entry = entry_of(shown, "f", "C")
    assert shown == {"a": "3", "f": "3", entry: "4"}
    a.remove(entry)
    assert a.shows == {"a": "3", "f": "3"}
    assert exchange(*peers) == {"a": "3", "f": "3"}


@pytest.mark.parametrize("policy", [b"append", b"blocks"])
def test_what_two_sites_renamed_alike_is_one_content(policy):
    """A log has a second name, at which another file holds the same: that shows once.  A and B each rename
    the log over t.  The two versions that say so were shown together, and that is like no other content: the
    other file came out beside it."""
    a, b = shells(0, 0)
    a.create("log")
    a.fs.setxattr(a.stat("log").ino, b"user.elmer.merge", policy)
    a.write("log", "1")
    a.write("t", "t")
    b.hear(a)
    a.link("log", "u")
    b.write("u", "1")
    assert exchange(a, b) == {"log": "1", "t": "t", "u": "1"}
    a.move("log", "t")
    b.move("log", "t")
    assert exchange(a, b) == {"t": "1", "u": "1"}


def test_a_change_of_mode_of_what_heads_show_together_leaves_what_shows():
    """A log shows what A and B added, and under its second name another file hides.  The change of mode
    parted the two by a version of what one of the heads holds: what the other had added was in conflict."""
    a, b = shells(0, 0)
    a.create("log")
    a.fs.setxattr(a.stat("log").ino, b"user.elmer.merge", b"append")
    a.write("log", "1")
    b.hear(a)
    a.append("log", "2")
    b.append("log", "3")
    b.write("f", "1")
    a.link("log", "f")
    shown = exchange(a, b)
    assert shown == {"f": "123", "log": "123"}
    a.chmod("log", 0o600)
    assert a.shows == shown
    assert exchange(a, b) == shown


@pytest.mark.parametrize(
    ("text", "is_last"),
    [("two", True), ("two", False), ("other", True), ("other", False)],
    ids=["it hides", "it hides, and is older", "it leads", "it stands beside"],
)
def test_a_choice_that_shows_for_an_edit_stays_when_what_it_was_chosen_over_is_removed(
    text: str, is_last: bool
):
    """D removed what A chose over C's save, and B's edit, unseen by D, brings the file back: both show.

    D saved over C's as well, and removes that: all that the choice was made of is let go now, and it showed
    no more, by a removal of another file.
    """
    a, b, c, d = peers = shells(0, 0, 0, 0)
    a.create("f")
    exchange(*peers)
    if not is_last:
        b.write("f", text)
    a.write("f", "two")
    a.append("f", " three")
    if is_last:
        b.write("f", text)
    c.save("f", "saved")
    entry = entry_of(exchange(a, c, d), "f", "A")
    d.move(entry, "k")
    d.remove("k")
    a.remove("f")
    d.save("f", "new")
    before = exchange(*peers)
    assert sorted(before.values()) == sorted({"new", "two three", text} - {"two"})
    d.remove("f")
    del before["f"]
    assert d.shows == before
    assert exchange(*peers) == before
