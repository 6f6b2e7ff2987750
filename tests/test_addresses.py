"""URLs and addresses: what is read, when two are one server, and that an error repeats nothing of a URL."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.addresses import host_and_port, listening_host, published_address, reaches, read_url

PIECES = st.lists(st.sampled_from(["zQ7", "http", "redis", ":", "//", "/", "@", "[", "]", "?", "#", " ", "℀", "1"]))


@given(PIECES.map("".join))
def test_what_is_read_has_scheme_host_and_port(url: str) -> None:
    """What is read has one of the schemes, a host, and no port but 1 to 65535; an error has nothing of the URL."""
    try:
        parts, said = read_url(url, "http", "redis"), ""
    except ValueError as error:
        parts, said = None, str(error)
    if parts is None:
        assert "zQ7" not in said
        assert said.startswith("an http:// or redis:// URL with a host, and a port from 1 to 65535 if any, is needed: ")
    else:
        assert parts.scheme in ("http", "redis")
        assert parts.hostname
        assert parts.port is None or 1 <= parts.port <= 65535


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://es", ("es", 80)),
        ("https://ES.", ("es", 443)),
        ("http://[0:0::1]:9200", ("::1", 9200)),
        ("redis://h", ("h", 6379)),
        ("rediss://127.0.0.1:1", ("127.0.0.1", 1)),
    ],
)
def test_a_server_has_one_spelling(url: str, expected: tuple[str, int]) -> None:
    """Case, a last dot, a port that may be left out and the forms of IPv6 make no difference."""
    assert host_and_port(urlsplit(url)) == expected


@pytest.mark.parametrize("listening", ["127.0.0.1", "0.0.0.0", "localhost"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "127.0.0.2"])
def test_a_real_connection_agrees(listening: str, host: str) -> None:
    """Whether a connection is said to reach a server is what a real one does, on a port of its own."""
    with socket.create_server((listening, 0)) as server:
        port = server.getsockname()[1]
        try:
            with socket.create_connection((host, port), timeout=30):
                reached = True
        except ConnectionRefusedError:
            reached = False
    assert reaches(listening, host) is reached


def test_only_what_is_certain_is_said_to_reach() -> None:
    """Another name may be the same machine, but nobody is asked: it is not said to reach."""
    assert reaches("es.example", "ES.example.")
    assert not reaches("es.example", "es")
    assert not reaches("0.0.0.0", "es.example")
    assert reaches("", "::1")


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "::1", "fe80::1%eth0", "localhost", "es-1.example", "bücher"])
def test_a_server_listens_on_a_name_or_an_address(host: str) -> None:
    """Names, addresses of both kinds, and every address are taken as they are."""
    assert listening_host(host) == host


@pytest.mark.parametrize("text", ["search.example.org:9300", "10.0.0.1:80", "[::1]:65535", "es_1:1"])
def test_an_address_is_published_as_engines_do(text: str) -> None:
    """A name or an address and a port are kept as they are."""
    assert published_address(text) == text


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":80", "host:0", "host:65536", "host:x", "http://host:80", "::1:80", "[host]:80",
             "a b:80", "host/10.0.0.1:80", "host:80\n", "[::1]", "host:\u0663"],
)  # fmt: skip
def test_what_clients_could_not_connect_to_is_not_published(text: str) -> None:
    """Anything else is refused, and the message says what is needed."""
    with pytest.raises(ValueError, match="must be HOST:PORT"):
        published_address(text)
