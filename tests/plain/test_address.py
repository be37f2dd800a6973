"""Addresses: every form, the canonical text, the kinds, and what is refused."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevent.address import SCHEMES, Address
from edgevent.errors import AddressError, UsageError


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("tcp://127.0.0.1:3001", "tcp://127.0.0.1:3001"),
        ("TCP://Example.COM:1", "tcp://example.com:1"),
        ("tls://a-b.c_d.example.:443", "tls://a-b.c_d.example.:443"),
        ("tls://[::1]:443", "tls://[::1]:443"),
        ("udp://[2001:DB8:0:0::1]:0", "udp://[2001:db8::1]:0"),
        ("tcp://[::FFFF:7f00:1]:00080", "tcp://[::ffff:127.0.0.1]:80"),
        ("tcp://[fe80::1%Eth0.1]:65535", "tcp://[fe80::1%Eth0.1]:65535"),
        ("tcp://:3001", "tcp://:3001"),
        ("1.2.3.4:5", "tcp://1.2.3.4:5"),
        ("localhost:5", "tcp://localhost:5"),
        ("[::]:5", "tcp://[::]:5"),
        (":5", "tcp://:5"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("unix:///run/x.sock", "unix:/run/x.sock"),
        ("unix:////run/x.sock", "unix:/run/x.sock"),
        ("unix:@name", "unix:@name"),
        ("unix:relative.sock", "unix:relative.sock"),
        ("unix:./@x", "unix:./@x"),
        ("unix:/with space ", "unix:/with space "),
        ("tls+unix:/run/x", "tls+unix:/run/x"),
        ("unixgram:/run/x", "unixgram:/run/x"),
        ("unixseq:@x", "unixseq:@x"),
        ("fifo:/one", "fifo:/one"),
        ("fifo:/in,/out", "fifo:/in,/out"),
        ("fifo:///in,//out", "fifo:/in,/out"),
        ("fd:0", "fd:0"),
        ("fd:2147483647", "fd:2147483647"),
        ("cd://127.0.0.1:4040", "tcp://127.0.0.1:4040"),
        ("cd:///run/communicatord.sock", "unix:/run/communicatord.sock"),
        ("cd:/run/communicatord.sock", "unix:/run/communicatord.sock"),
        ("cds://host:4043", "tls://host:4043"),
        ("cds:/run/x", "tls+unix:/run/x"),
        ("cdu://127.0.0.1:4041", "udp://127.0.0.1:4041"),
        ("cdu:/run/x", "unixgram:/run/x"),
        ("cdu:///run/x", "unixgram:/run/x"),
    ],
)
def test_forms(text: str, canonical: str) -> None:
    address = Address.parse(text)
    assert str(address) == canonical
    assert Address.parse(canonical) == address
    assert Address.parse(address) is address
    assert pickle.loads(pickle.dumps(address)) == address
    assert len({address, Address.parse(canonical)}) == 1


def test_fields() -> None:
    assert Address.parse("tcp://[::1%lo]:5") == Address("tcp", host="::1%lo", port=5)
    assert Address.parse("fifo:/a,/b") == Address("fifo", path="/a", second_path="/b")
    assert Address.parse("fd:7") == Address("fd", fd=7)
    assert Address("tcp", host="LOCALHOST", port=1).host == "localhost"
    assert str(Address("unix")) == "unix:"


def test_defaults() -> None:
    assert str(Address.parse("h:1", default_scheme="udp")) == "udp://h:1"
    assert str(Address.parse("h", default_port=4041)) == "tcp://h:4041"
    assert str(Address.parse("[::1]", default_port=4041)) == "tcp://[::1]:4041"
    assert str(Address.parse("tls://h", default_port=4041)) == "tls://h:4041"
    assert str(Address.parse("h:0", default_port=4041)) == "tcp://h:0"
    assert str(Address.parse("/run/x", default_scheme="unix")) == "unix:/run/x"
    assert str(Address.parse("@x", default_scheme="unix")) == "unix:@x"
    assert str(Address.parse("3", default_scheme="fd")) == "fd:3"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "there is no port"),
        ("host", "there is no port"),
        ("tcp://", "there is no port"),
        ("tcp://h", "there is no port"),
        ("tcp:h:1", "expected tcp://host:port"),
        ("tcp://h:", "port ''"),
        ("tcp://h:x", "port 'x'"),
        ("tcp://h:-1", "port '-1'"),
        ("tcp://h:+1", "port '+1'"),
        ("tcp://h:65536", "port 65536: expected 0 to 65535"),
        ("tcp://h:123456", "port '123456'"),
        ("tcp://h:\u0661", "port"),
        ("tcp://h:1/", "port '1/'"),
        ("tcp://::1:80", "in brackets"),
        ("::1", "in brackets"),
        ("tcp://[::1:80", "in brackets"),
        ("tcp://[::1]80", "in brackets"),
        ("tcp://[1.2.3.4]:80", "in brackets"),
        ("tcp://[::g]:80", "IPv6"),
        ("tcp://[fe80::1%]:80", "IPv6"),
        ("tcp://[fe80::1%a/b]:80", "IPv6"),
        ("tcp://[fe80::1%0123456789abcdef]:80", "IPv6"),
        ("tcp://1.2.3:80", "four decimal numbers"),
        ("tcp://1.2.3.256:80", "four decimal numbers"),
        ("tcp://1.2.3.04:80", "four decimal numbers"),
        ("tcp://127.1.:80", "four decimal numbers"),
        ("tcp://2130706433:80", "four decimal numbers"),
        ("tcp://0x7f.0x1:80", "four decimal numbers"),
        ("tcp://a b:80", "ASCII letters"),
        ("tcp://a..b:80", "ASCII letters"),
        ("tcp://-a:80", "ASCII letters"),
        ("tcp://a-:80", "ASCII letters"),
        ("tcp://a\n:80", "ASCII letters"),
        ("tcp://*:80", "ASCII letters"),
        ("tcp://m\u00fcnchen.example:80", "ASCII letters"),
        ("tcp://" + "a" * 64 + ":80", "ASCII letters"),
        ("tcp://" + ".".join(["abcdefg"] * 32) + ":80", "ASCII letters"),
        ("unix:", "the path is empty"),
        ("unix:@", "the path is empty"),
        ("unix://host/x", "unix:///path"),
        ("unix:/a\0b", "without a NUL"),
        ("unix:/\ud800", "file system"),
        ("fifo:", "the path is empty"),
        ("fifo:/a,", "fifo:/in,/out"),
        ("fifo:,/b", "the path is empty"),
        ("fifo:/a,/b,/c", "without a comma"),
        ("fd:", "number of a descriptor"),
        ("fd:-1", "number of a descriptor"),
        ("fd:x", "number of a descriptor"),
        ("fd:2147483648", "expected 0 to 2147483647"),
        ("tcq://h:1", "did you mean tcp?"),
        ("unx:/run/x", "did you mean unix?"),
        ("http://h:1", "scheme 'http': expected one of tcp, tls"),
        ("/run/x", "unix: before a path"),
        ("@x", "unix: before a path"),
    ],
)
def test_refused(text: str, expected: str) -> None:
    with pytest.raises(AddressError) as raised:
        Address.parse(text)
    assert expected in str(raised.value)
    assert str(raised.value).startswith(f"address {text!r}"[:90])


@pytest.mark.parametrize("wrong", [3001, ("127.0.0.1", 3001), None, b"tcp://h:1"])
def test_what_is_no_text_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match=f"an address is text, .* no {type(wrong).__name__}"):
        Address.parse(wrong)


def test_a_default_scheme_that_is_none() -> None:
    with pytest.raises(AddressError, match="default scheme 'cd'"):
        Address.parse("h:1", default_scheme="cd")


@pytest.mark.parametrize("prefix", ["cds://", "tls://", "ttls://", ""])
def test_credentials_are_refused_and_not_shown(prefix: str) -> None:
    with pytest.raises(AddressError) as raised:
        Address.parse(f"{prefix}alfred:s3cr@t@host:4043")
    assert f"'{prefix}***@host:4043'" in str(raised.value)
    assert "s3cr" not in str(raised.value)
    assert "alfred" not in str(raised.value)


def test_a_long_text_is_cut() -> None:
    with pytest.raises(AddressError) as raised:
        Address.parse("x" * 1_000_000)
    assert len(str(raised.value)) < 250


@pytest.mark.parametrize(
    "fields",
    [
        {"scheme": "cd"},
        {"scheme": "tcp", "path": "/x"},
        {"scheme": "tcp", "fd": 1},
        {"scheme": "tcp", "port": -1},
        {"scheme": "unix", "host": "h"},
        {"scheme": "unix", "path": "/x", "second_path": "/y"},
        {"scheme": "fifo"},
        {"scheme": "fifo", "path": "/x", "port": 1},
        {"scheme": "fifo", "path": "/x", "second_path": "a,b"},
        {"scheme": "fd"},
        {"scheme": "fd", "fd": 1, "path": "/x"},
    ],
)
def test_fields_refused(fields: dict[str, object]) -> None:
    with pytest.raises(AddressError):
        Address(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scheme", "kinds"),
    [
        ("tcp", "inet stream"),
        ("tls", "inet stream tls"),
        ("udp", "datagram inet"),
        ("unix", "local stream unix"),
        ("tls+unix", "local stream tls unix"),
        ("unixgram", "datagram local unix"),
        ("unixseq", "local unix"),
        ("fifo", "local stream"),
        ("fd", "local stream"),
    ],
)
def test_kinds(scheme: str, kinds: str) -> None:
    rest = {"tcp": "//h:1", "tls": "//h:1", "udp": "//h:1", "fd": "1"}.get(scheme, "/x")
    address = Address.parse(f"{scheme}:{rest}")
    found = [
        kind
        for kind in ("datagram", "inet", "local", "loopback", "stream", "tls", "unix")
        if getattr(address, f"is_{kind}")
    ]
    assert " ".join(found) == kinds
    assert not address.is_any
    assert not address.is_private
    assert not address.is_multicast


@pytest.mark.parametrize(
    ("host", "kinds"),
    [
        ("127.0.0.1", "local loopback"),
        ("127.255.0.1", "local loopback"),
        ("localhost", "local loopback"),
        ("[::1]", "local loopback"),
        ("[::ffff:127.0.0.1]", "local loopback"),
        ("10.0.0.1", "private"),
        ("172.31.255.255", "private"),
        ("172.32.0.1", ""),
        ("192.168.0.1", "private"),
        ("169.254.0.1", "private"),
        ("[fd00::1]", "private"),
        ("[fe80::1%eth0]", "private"),
        ("[::ffff:10.0.0.1]", "private"),
        ("8.8.8.8", ""),
        ("[2001:db8::1]", ""),
        ("example.com", ""),
        ("", "any"),
        ("0.0.0.0", "any"),
        ("[::]", "any"),
        ("[::ffff:0.0.0.0]", "any"),
        ("239.1.1.1", "multicast"),
        ("[ff02::1]", "multicast"),
    ],
)
def test_hosts(host: str, kinds: str) -> None:
    address = Address.parse(f"{host}:1")
    names = ("any", "local", "loopback", "multicast", "private")
    assert " ".join(name for name in names if getattr(address, f"is_{name}")) == kinds


def test_abstract() -> None:
    assert Address.parse("unix:@x").is_abstract
    assert not Address.parse("unix:/x").is_abstract
    assert not Address.parse("fifo:@x").is_abstract


def test_long_paths() -> None:
    assert not Address.parse("unix:/" + "x" * 106).path_too_long
    assert Address.parse("unix:/" + "x" * 107).path_too_long
    assert Address.parse("unix:/" + "\u00e9" * 54).path_too_long
    assert not Address.parse("unix:@" + "x" * 107).path_too_long
    assert Address.parse("unix:@" + "x" * 108).path_too_long
    assert not Address.parse("fifo:/" + "x" * 200).path_too_long


def test_endpoint() -> None:
    assert Address.parse("tls://1.2.3.4:5").endpoint == "1.2.3.4:5"
    assert Address.parse("tcp://[::1]:5").endpoint == "[::1]:5"
    assert Address.parse("unix:/x").endpoint == "unix:/x"


_paths = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(st.sampled_from(("tcp", "tls", "udp")), st.ip_addresses(), st.integers(0, 65_535))
def test_round_trip_of_numeric_hosts(scheme: str, ip: object, port: int) -> None:
    address = Address(scheme, host=str(ip), port=port)
    assert Address.parse(str(address)) == address
    assert Address.parse(address.endpoint, default_scheme=scheme) == address


@given(st.sampled_from(("unix", "tls+unix", "unixgram", "unixseq")), _paths)
def test_round_trip_of_paths(scheme: str, path: str) -> None:
    address = Address(scheme, path=path)
    if path != "@":
        assert Address.parse(str(address)) == address


@given(st.text() | st.builds("{}:{}".format, st.sampled_from((*SCHEMES, "cd", "")), st.text()))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        address = Address.parse(text, default_port=1)
    except AddressError:
        return
    assert Address.parse(str(address)) == address
