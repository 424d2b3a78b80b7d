import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.causality import REPLICA_MAX, ReplicaId
from crdt.facts import Member
from elmer import joining
from elmer.volume import draw_replica
from replication.local import PeerError

MEMBERS = [Member(ReplicaId(1), "a", b"a" * 16, 1), Member(ReplicaId(REPLICA_MAX), "b", b"b" * 16, 3)]


def test_a_request_is_read_as_it_was_written():
    request = joining.Request("home", b"s" * 16, ["http://a:1"])
    assert joining.decode_request(joining.encode_request(request)) == request


def test_members_are_read_as_they_were_written():
    assert joining.decode_members(joining.encode_members(MEMBERS)) == MEMBERS


def test_a_refusal_is_raised_with_its_reason():
    with pytest.raises(PeerError, match=r"^the name 'a' is taken$"):
        joining.decode_members(joining.encode_refusal("the name 'a' is taken"))


MALFORMED = """
[]
{
{"name": 1, "store_id": "00", "urls": []}
{"name": "a"}
{"name": "a", "store_id": "zz", "urls": []}
{"members": 1}
{"members": [[0, "a", "61616161616161616161616161616161", 1]]}
{"members": [["1", "a", "61616161616161616161616161616161", 1]]}
{"members": [[1, "a", "61", 1]]}
"""


@pytest.mark.parametrize("data", [b"\xff", *MALFORMED.encode().splitlines()])
def test_what_is_malformed_is_the_peers_fault(data):
    for decode in (joining.decode_request, joining.decode_members):
        with pytest.raises(PeerError):
            decode(data)


@given(st.binary(max_size=100))
def test_whatever_comes_is_read_or_refused(data):
    for decode in (joining.decode_request, joining.decode_members):
        try:
            decode(data)
        except PeerError:
            continue


def test_a_number_that_is_taken_is_not_drawn(monkeypatch):
    drawn = iter([6, 6, 7])
    monkeypatch.setattr("secrets.randbelow", lambda limit: next(drawn) if limit == REPLICA_MAX else -1)
    assert draw_replica([ReplicaId(7)]) == 8


def test_every_number_may_be_drawn(monkeypatch):
    monkeypatch.setattr("secrets.randbelow", lambda limit: 0)
    assert draw_replica([]) == 1
    monkeypatch.setattr("secrets.randbelow", lambda limit: limit - 1)
    assert draw_replica([]) == REPLICA_MAX
