import pytest
from hypothesis import given
from hypothesis import strategies as st

from elmer.exits import CommandError, ExitStatus
from elmer.ticket import PREFIX, Ticket, decode, encode

TICKET = Ticket(bytes(range(16)), b"s" * 32, b"d" * 32, ("http://192.0.2.7:7400", "http://[::1]:1"))

# The golden vector: tickets that were printed stay good.
PRINTED = (
    "elmer1-AAECAwQFBgcICQoLDA0OD3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3NzZGRkZGRkZGRkZGRkZGRkZGRk"
    "ZGRkZGRkZGRkZGRkZGRodHRwOi8vMTkyLjAuMi43Ojc0MDAKaHR0cDovL1s6OjFdOjGNMaaLBizPYg"
)


def test_a_ticket_is_one_line_of_url_safe_text():
    assert encode(TICKET) == PRINTED


def test_a_ticket_is_read_as_it_was_written():
    assert decode(PRINTED) == TICKET
    assert decode(f"  {PRINTED}\n") == TICKET


@given(
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=32, max_size=32),
    st.lists(st.sampled_from(["http://a:1", "http://b.example:65535"])),
)
def test_every_ticket_comes_back(volume_id, key, urls):
    ticket = Ticket(volume_id, key, key[::-1], tuple(urls))
    assert decode(encode(ticket)) == ticket


@pytest.mark.parametrize("cut", range(len(PREFIX), len(PRINTED)))
def test_a_ticket_that_was_cut_is_refused(cut):
    with pytest.raises(CommandError, match="damaged") as refused:
        decode(PRINTED[:cut])
    assert refused.value.status == ExitStatus.USAGE


@pytest.mark.parametrize("at", range(len(PREFIX), len(PRINTED)))
def test_a_ticket_with_one_wrong_character_is_refused(at):
    wrong = "A" if PRINTED[at] != "A" else "B"
    with pytest.raises(CommandError, match="damaged"):
        decode(PRINTED[:at] + wrong + PRINTED[at + 1 :])


@pytest.mark.parametrize("text", ["", "nonsense", "http://192.0.2.7:7400", "ELMER1-AAAA"])
def test_what_is_no_ticket_is_called_that(text):
    with pytest.raises(CommandError, match="no ticket"):
        decode(text)


def test_a_ticket_of_another_version_is_called_that():
    with pytest.raises(CommandError, match="another version"):
        decode("elmer2-" + PRINTED.removeprefix(PREFIX))


@pytest.mark.parametrize("text", ["elmer1-" + "A" * 400 + "!", "elmer1-é", "elmer1-A A"])
def test_a_ticket_with_foreign_characters_is_refused(text):
    with pytest.raises(CommandError, match="damaged"):
        decode(text)
