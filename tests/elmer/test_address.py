import pytest

from elmer.address import Address, parse_address, peer_url
from elmer.exits import CommandError, ExitStatus


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7400", Address("127.0.0.1", 7400)),
        (":7400", Address("127.0.0.1", 7400)),
        ("files.example.org:0", Address("files.example.org", 0)),
        ("[::1]:7400", Address("::1", 7400)),
        ("0.0.0.0:65535", Address("0.0.0.0", 65535)),
    ],
)
def test_an_address_is_read(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7400",
        "host",
        "host:",
        "host:port",
        "host:65536",
        "host:-1",
        "::1:7400",
        "a/b:1",
        "user@host:1",
        "host:1/path",
        "host:1?x",
        "[::1:7400",
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(CommandError, match="HOST:PORT") as refused:
        parse_address(text)
    assert refused.value.status == ExitStatus.USAGE


@pytest.mark.parametrize("address", [Address("::1", 1), Address("host", 0), Address("1.2.3.4", 5)])
def test_an_address_is_written_as_it_is_read(address):
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("files.example.org:7400", "http://files.example.org:7400"),
        ("http://files.example.org:7400", "http://files.example.org:7400"),
        ("HTTP://[::1]:7400/", "http://[::1]:7400"),
    ],
)
def test_a_peer_has_one_url_however_it_was_written(text, url):
    assert peer_url(text) == url


@pytest.mark.parametrize("text", ["https://host:1", "host:0", "0.0.0.0:7400", "[::]:7400", "http://"])
def test_what_nobody_can_dial_is_no_peer(text):
    with pytest.raises(CommandError) as refused:
        peer_url(text)
    assert refused.value.status == ExitStatus.USAGE
