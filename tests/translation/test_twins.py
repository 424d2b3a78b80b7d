"""Files of one name, kind, owner and content are twins, and show once (crdt.claims, translation.twins)."""

import stat

import pytest

from crdt.versions import surviving
from tests.shell import CALLER, Shell, entry_of, exchange, shells
from translation.filesystem import Caller

BIG = "0123456789abcdef" * 4096  # two blocks


def unpacked(text: str = "text", *, names: str = "f") -> list[Shell]:
    """Two replicas that both made files with this content; A's are the older ones."""
    peers = shells(0, 0)
    for peer in peers:
        peer.write(names[0], text)
        for name in names[1:]:
            peer.link(names[0], name)
    exchange(*peers)
    return peers


def orphans(shell: Shell) -> list[int]:
    """Files that show nowhere, though nobody meant their content to be gone."""
    state = shell.replica.state
    inodes = [state.inode(int.from_bytes(key[1:], "big")) for key, _ in state.scan(b"I", b"J")]
    return [i.ino for i in inodes if not i.is_directory and not i.shown and surviving(state, i)]


@pytest.mark.parametrize("text", ["", "text", BIG])
def test_what_both_made_shows_once_under_the_number_of_the_oldest(text):
    a, b = shells(0, 0)
    a.write("f", text)
    b.write("f", text)
    ino = a.stat("f").ino
    assert exchange(a, b) == {"f": text}
    assert a.stat("f").ino == b.stat("f").ino == ino
    assert a.stat("f").nlink == 1
    assert a.fs.conflicts() == []


def test_the_number_that_does_not_show_stays_valid():
    """A program has the file open while its twin comes."""
    a, b = shells(0, 0)
    a.write("f", "text")
    b.write("f", "text")
    ino = b.stat("f").ino
    fh = b.open_file("f", 0)
    assert exchange(a, b) == {"f": "text"}
    assert b.stat("f").ino != ino
    assert b.fs.read(fh, 0, 10) == b"text"
    attributes = b.fs.getattr(ino)
    assert (attributes.size, attributes.nlink) == (4, 1)
    b.close(fh)


@pytest.mark.parametrize("on_both", [False, True])
def test_an_edit_of_what_shows_once_is_no_conflict_afterwards(on_both):
    a, b = unpacked()
    b.write("f", "new")
    if on_both:
        a.write("f", "other")
    shown = exchange(a, b)
    assert sorted(shown.values()) == (["new", "other"] if on_both else ["new"])


@pytest.mark.parametrize(
    "act", ["remove", "move", "move over", "replace", "chmod", "chown", "truncate", "link and remove"]
)
def test_what_is_done_through_the_name_is_done_to_all_twins(act):
    a, b = unpacked()
    want = {"f": "text"}
    if act == "remove":
        b.remove("f")
        want = {}
    elif act == "move":
        b.move("f", "g")
        want = {"g": "text"}
    elif act == "move over":
        b.write("g", "old")
        b.move("f", "g")
        want = {"g": "text"}
    elif act == "replace":
        b.write("g", "new")
        b.move("g", "f")
        want = {"f": "new"}
    elif act == "chmod":
        b.chmod("f", 0o600)
    elif act == "chown":
        b.fs.setattr(b.stat("f").ino, uid=7)
    elif act == "truncate":
        b.fs.setattr(b.stat("f").ino, size=2)
        want = {"f": "te"}
    else:
        b.link("f", "g")
        b.remove("f")
        want = {"g": "text"}
    assert b.shows == want
    assert exchange(a, b) == want
    assert orphans(a) == orphans(b) == []
    if act == "chmod":
        assert stat.S_IMODE(a.stat("f").mode) == 0o600
    if act == "chown":
        assert a.stat("f").uid == 7


def test_twins_of_symlinks_and_of_special_files():
    a, b = shells(0, 0)
    for peer in (a, b):
        peer.symlink("s", "target")
        peer.world.tick()
        peer.fs.mknod(1, b"p", stat.S_IFIFO | 0o600, 0, CALLER)
    assert exchange(a, b) == {"s": "-> target", "p": "special"}
    b.move("s", "t")
    a.remove("p")
    assert exchange(a, b) == {"t": "-> target"}
    b.remove("t")
    assert exchange(a, b) == {}
    assert orphans(a) == []


def test_files_of_different_owners_kinds_or_devices_are_no_twins():
    a, b = shells(0, 0)
    for number, peer in enumerate((a, b)):
        peer.world.tick()
        fh, _ = peer.fs.create(1, b"f", 0o644, 1, Caller(number, 0))
        peer.close(fh)
        peer.symlink("s", f"target{number}")
        peer.world.tick()
        peer.fs.mknod(1, b"d", stat.S_IFCHR | 0o600, number, CALLER)
        peer.fs.mknod(1, b"k", (stat.S_IFIFO, stat.S_IFSOCK)[number] | 0o600, 0, CALLER)
    shown = exchange(a, b)
    assert len(shown) == 8, shown


def test_twins_show_the_mode_that_both_leave_and_keep_it_when_they_part():
    a, b = shells(0, 0)
    a.create("f", 0o640)
    b.create("f", 0o606)
    exchange(a, b)
    assert stat.S_IMODE(a.stat("f").mode) == 0o600
    b.write("f", "new")
    exchange(a, b)
    assert stat.S_IMODE(a.stat("f").mode) == 0o600


def test_a_chmod_elsewhere_shows_in_the_twin():
    """B, who has not heard of A's file, closes its own: they show as one, as far as both allow."""
    a, b = shells(0, 0)
    a.create("f", 0o644)
    b.create("f", 0o644)
    b.chmod("f", 0o600)
    exchange(a, b)
    assert stat.S_IMODE(a.stat("f").mode) == 0o600
    b.chmod("f", 0o644)
    exchange(a, b)
    assert stat.S_IMODE(a.stat("f").mode) == 0o644


def test_a_twin_with_another_name_keeps_it_when_they_part():
    """B's file has a second name, which A's has not."""
    a, b = shells(0, 0)
    a.write("f", "text")
    b.write("f", "text")
    b.link("f", "g")
    assert exchange(a, b) == {"f": "text", "g": "text"}
    assert a.stat("f").ino != a.stat("g").ino
    assert (a.stat("f").nlink, a.stat("g").nlink) == (1, 1)
    a.write("f", "new")
    assert exchange(a, b) == {"f": "new", "g": "text"}
    a, b = shells(0, 0)
    a.write("f", "text")
    b.write("f", "text")
    b.link("f", "g")
    exchange(a, b)
    b.write("g", "new")
    assert exchange(a, b) == {"f": "text", "g": "new"}


def test_of_twins_with_three_hard_links_one_name_goes():
    a, b = unpacked(names="fgh")
    assert a.stat("f").nlink == 3
    b.remove("f")
    assert exchange(a, b) == dict.fromkeys("gh", "text")


def test_two_links_of_one_file_at_one_name_show_once():
    a, b = shells(0, 0)
    a.write("f", "text")
    b.hear(a)
    a.link("f", "g")
    b.link("f", "g")
    assert exchange(a, b) == {"f": "text", "g": "text"}
    assert a.stat("f").nlink == 2
    a.remove("g")
    assert exchange(a, b) == {"f": "text"}
    a.remove("f")
    assert exchange(a, b) == {}


def test_the_last_names_of_one_file_that_stand_at_one_name_go_together():
    """Nothing is left of it, not even an orphan."""
    a, b = shells(0, 0)
    a.write("f", "text")
    b.hear(a)
    a.link("f", "g")
    a.remove("f")
    b.link("f", "g")
    b.remove("f")
    assert exchange(a, b) == {"g": "text"}
    a.remove("g")
    assert exchange(a, b) == {}
    assert orphans(a) == orphans(b) == []


def test_a_write_through_a_descriptor_of_the_twin_that_does_not_show_is_what_the_name_shows():
    """B has had its file open since before A's twin came, whose number shows now."""
    a, b = shells(0, 0)
    a.write("f", "text")
    b.write("f", "what was before")
    b.write("f", "text")
    fh = b.open_file("f")
    b.hear(a)
    b.fs.write(fh, 4, b" and more")
    b.close(fh)
    assert b.shows == {"f": "text and more"}
    assert exchange(a, b) == {"f": "text and more"}


def test_an_edit_elsewhere_makes_a_twin_a_conflict_entry():
    """C edits B's file and has not heard of A's: it adds nothing no longer."""
    a, b, c = shells(0, 0, 0)
    a.write("f", "text")
    b.write("f", "text")
    c.hear(b)
    c.write("f", "new")
    assert exchange(a, b) == {"f": "text"}
    shown = exchange(a, b, c)
    assert shown == {"f": "new"}  # what A has is in the history of C's


def test_an_edit_elsewhere_of_a_twin_shows_under_all_its_names():
    """B edits its file through a second name, and has not heard of A's: at the first one the two part."""
    a, b, c = shells(0, 0, 0)
    a.write("f", "text")
    b.write("f", "text")
    b.link("f", "g")
    c.hear(a, b)
    assert c.shows == {"f": "text", "g": "text"}
    b.append("g", " and more")
    c.hear(b)
    assert c.shows == {"f": "text and more", "g": "text and more"}  # what A has is in its history
    assert exchange(a, b, c) == c.shows


def test_an_edit_of_each_makes_two_of_them():
    a, b, c = shells(0, 0, 0)
    a.write("f", "text")
    b.write("f", "text")
    c.hear(b)
    c.write("f", "new")
    a.write("f", "other")
    assert sorted(exchange(a, b, c).values()) == ["new", "other"]


def test_twins_in_the_members_of_a_union():
    a, b = shells(0, 0)
    for peer in (a, b):
        peer.mkdir("d")
        peer.write("d/f", "text")
    assert exchange(a, b) == {"d": "dir", "d/f": "text"}
    a.write("d/f", "new")
    assert exchange(a, b) == {"d": "dir", "d/f": "new"}
    a.remove("d/f")
    assert exchange(a, b) == {"d": "dir"}
    a.rmdir("d")
    assert exchange(a, b) == {}


def test_the_removal_of_a_directorys_last_twins_leaves_the_directory():
    """The directory was removed elsewhere and shows for what is inside: two files that show as one."""
    a, b, c = shells(0, 0, 0)
    a.mkdir("d")
    exchange(a, b, c)
    a.rmdir("d")
    for peer in (b, c):
        peer.write("d/f", "text")
    assert exchange(a, b, c) == {"d": "dir", "d/f": "text"}
    a.remove("d/f")
    assert a.shows == {"d": "dir"}
    assert exchange(a, b, c) == {"d": "dir"}


def test_a_name_in_each_member_of_a_union_is_one_link():
    """Both linked the file into their own directory of that name.  The one that does not show was counted."""
    a, b = shells(0, 0)
    a.mkdir("d")
    b.mkdir("d")
    a.write("f", "text")
    a.hear(b)
    b.hear(a)
    a.link("f", "d/g")
    b.link("f", "d/g")
    assert exchange(a, b) == {"d": "dir", "d/g": "text", "f": "text"}
    assert a.stat("f").nlink == 2


def test_what_a_save_replaced_under_one_of_two_names_is_not_its_past():
    """C saved a file of two names by rename over one of them; its edit before that lives on under the other.

    B removed that name, and had not seen the edit: so it shows.  It counted as the past of what C saved, and
    was nowhere.
    """
    a, b, c = shells(0, 0, 0)
    a.write("a", "text")
    a.link("a", "n")
    exchange(a, b, c)
    c.write("a", "edit")
    b.remove("n")
    a.write("a", "text")
    c.write("x", "text")
    c.move("x", "a")
    assert sorted(exchange(a, b, c).values()) == ["edit", "text"]


def test_a_twin_does_not_come_out_when_the_past_of_another_is_let_go():
    """B saved what A's save holds in its past, over a file that lived on under another name of it.

    When that name was removed, what B's file had replaced became its past as well: A's content stood in it,
    so that each added nothing to the other, and what had been one file was two.
    """
    a, b = shells(0, 0)
    a.write("f", "1")
    b.hear(a)
    b.link("f", "name")
    b.append("f", "2")
    b.write("x", "1")
    b.move("x", "f")
    a.write("x", "12")
    a.move("x", "f")
    b.hear(a)
    assert b.shows == {"f": "12", "name": "12"}
    b.remove("name")
    assert b.shows == {"f": "12"}
    assert exchange(a, b) == {"f": "12"}


def test_the_mode_stays_when_a_hidden_twin_goes_with_what_it_was_chosen_over():
    """Two files of one name.  C removes its own, A removes A's: each is chosen over the other; B saves over
    A's, which hides under that, and takes rights from it.  With C's it is removed, and is nothing any more:
    what B saved could be read by everybody again."""
    a, b, c = shells(0, 0, 0)
    a.write("f", "of A")
    c.write("f", "of C")
    exchange(a, b, c)
    other = entry_of(a.shows, "f", "A")
    a.chmod(other, 0o640)
    exchange(a, b, c)
    c.remove("f")
    a.remove(other)
    b.save(other, "new")
    assert exchange(a, b, c) == {"f": "of C", other: "new"}
    assert stat.S_IMODE(b.stat(other).mode) == 0o640
    b.remove("f")
    assert stat.S_IMODE(b.stat(other).mode) == 0o640
    assert exchange(a, b, c) == {other: "new"}
    assert stat.S_IMODE(a.stat(other).mode) == stat.S_IMODE(c.stat(other).mode) == 0o640
