"""How each side of a TLS conversation judges the certificates of the other one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from OpenSSL import crypto
from tls_ground import (
    NOW,
    Case,
    Talk,
    authority,
    careless,
    client_cases,
    client_options,
    client_pair,
    middle,
    only_12,
    server_cases,
    server_options,
    server_pair,
)

from edgevent import (
    CertificateError,
    ConnectionLostError,
    HandshakeError,
    IdentityError,
    TlsOptions,
    make_authority,
    tls,
)
from edgevent.testing.clock import ManualClock
from edgevent.tls_verify import Judge

VERSIONS = ("1.2", "1.3")


def dial(client: TlsOptions, server: TlsOptions, version: str = "1.3", **settings: Any) -> Talk:
    if version == "1.2":
        only_12(server, server_side=True)
    return Talk(client, server, **settings)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("case", server_cases(), ids=str)
def test_a_client_judges_its_server(case: Case, name: str, version: str) -> None:
    server = careless(server_options(case.make()), server_side=True)
    talk = dial(client_options(), server, version, server_name=name)
    if case.error is None:
        assert talk.is_up
        assert talk.client.version == f"TLSv{version}"
        return
    error, said = talk.errors[talk.client], talk.errors[talk.server]
    assert type(error) is case.error
    assert f"tls://server: {case.sentence}" in str(error) or case.sentence in str(error)
    if case.error is IdentityError:
        assert str(error).endswith((f" of {name}", f" of {name} must"))
    assert isinstance(said, CertificateError)
    assert str(said).startswith("tls://client: the client does not accept this side's certificate")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", client_cases(), ids=str)
def test_a_server_judges_its_client(case: Case, version: str) -> None:
    client = careless(client_options(case.make()), server_side=False)
    server = server_options(allow_names=["Alice", "localhost"])
    talk = dial(client, server, version)
    if case.error is None:
        assert talk.is_up
        assert talk.server.is_mutual
        assert not talk.client.is_mutual
        return
    error = talk.errors[talk.server]
    assert type(error) is case.error
    assert str(error).startswith("tls://client: ")
    assert case.sentence in str(error)
    # With TLS 1.3 the client learns that from what it reads after its own handshake.
    said = talk.errors[talk.client]
    assert isinstance(said, HandshakeError if version == "1.2" else ConnectionLostError)
    if case.name != "none":
        assert "tls://server: the server does not accept this side's certificate" in str(said)
    elif version == "1.3":
        assert str(said).endswith("certificate required")


@pytest.mark.parametrize(
    ("name", "fits"),
    [("a.example.com", True), ("A.Example.Com.", True), ("a.b.example.com", False)],
)
def test_a_wildcard_stands_for_one_label(name: str, fits: bool) -> None:
    server = server_options(server_pair("*.example.com"))
    assert Talk(server=server, server_name=name).is_up == fits


def test_the_name_may_be_another_one_than_was_dialled() -> None:
    talk = Talk(client_options(), server_options(), server_name="b.example")
    assert isinstance(talk.errors[talk.client], IdentityError)
    assert Talk(client_options(), server_options(), server_name="::1").is_up
    assert Talk(client_options(), server_options(), server_name="127.0.0.2").errors


@pytest.mark.parametrize(("depth", "above", "fits"), [(0, 0, True), (0, 1, False), (1, 1, True)])
def test_authorities_between_count_as_depth(depth: int, above: int, fits: bool) -> None:
    pair = server_pair(authority=middle()) if above else server_pair()
    talk = Talk(client_options(verify_depth=depth), server_options(pair))
    assert talk.is_up == fits
    if not fits:
        assert "chain is too long: more than 0 authorities" in str(talk.errors[talk.client])


def test_a_chain_that_was_not_sent_is_no_chain() -> None:
    pair = server_pair(authority=middle())
    alone = TlsOptions(pair.certificate, pair.key_pem)
    talk = Talk(server=alone)
    assert "issuer 'CN=middle authority' is not among" in str(talk.errors[talk.client])
    both = client_options(authorities=[authority().certificate, middle().certificate])
    assert Talk(both, alone).is_up


def test_an_authority_that_has_expired_is_named() -> None:
    old = make_authority("old", not_before=NOW - timedelta(2), not_after=NOW - timedelta(1))
    server = server_options(server_pair(authority=old))
    talk = Talk(client_options(authorities=old.certificate), server)
    text = "the certificate of the authority 'CN=old': it has expired on"
    assert text in str(talk.errors[talk.client])


def test_a_self_signed_certificate_is_trusted_by_those_who_have_it() -> None:
    pair = server_pair(authority=None)
    assert Talk(client_options(authorities=pair.certificate_pem), server_options(pair)).is_up


def signed(
    name: str, *extensions: Any, authority: Any = None, critical: bool = False
) -> tuple[Any, Any]:
    """A certificate with any extensions in it, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuer, signer = (subject, key) if authority is None else (authority[0].subject, authority[1])
    dates = (NOW - timedelta(1), NOW + timedelta(1))
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), 5, *dates)
    for extension in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256()), key


@pytest.mark.parametrize("verify", ["required", "warn"])
def test_a_certificate_that_cannot_be_read_is_refused(
    verify: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from cryptography import x509

    alternative_names = x509.ObjectIdentifier("2.5.29.17")
    unreadable = x509.UnrecognizedExtension(alternative_names, b"\x30\x03\x82\x01\xff")
    certificate, key = signed("garbled", unreadable)
    client = client_options(authorities=certificate, verify=verify)
    talk = Talk(client, TlsOptions(certificate, key))
    text = "tls://server: the certificate cannot be read: "
    if verify == "warn":
        assert talk.is_up
        assert text in caplog.text
    else:
        assert isinstance(talk.errors[talk.client], CertificateError)
        assert text in str(talk.errors[talk.client])


def test_other_causes_have_a_sentence_too() -> None:
    from cryptography import x509

    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    certificate, key = signed("strange", strange, critical=True)
    talk = Talk(client_options(authorities=certificate), TlsOptions(certificate, key))
    text = "the certificate 'CN=strange': it is not valid (OpenSSL's verify error 34)"
    assert text in str(talk.errors[talk.client])
    limited = signed(
        "limited",
        x509.BasicConstraints(ca=True, path_length=None),
        x509.NameConstraints([x509.DNSName("a.example")], None),
    )
    leaf, key = signed(
        "leaf", x509.SubjectAlternativeName([x509.DNSName("localhost")]), authority=limited
    )
    talk = Talk(client_options(authorities=limited[0]), TlsOptions(leaf, key))
    text = "an authority in its chain may not sign for this name"
    assert text in str(talk.errors[talk.client])


def test_what_stands_in_a_foreign_certificate_is_one_short_line() -> None:
    from cryptography import x509

    names = [x509.DNSName(f"a\nb\x1b{number}" + "x" * 100) for number in range(200)]
    own = signed("own", x509.BasicConstraints(ca=True, path_length=None))
    leaf, key = signed("n\n\x1b" + "y" * 50, x509.SubjectAlternativeName(names), authority=own)
    talk = Talk(client_options(authorities=own[0]), TlsOptions(leaf, key))
    text = str(talk.errors[talk.client])
    assert text.isprintable()
    assert "and 195 more, not of localhost" in text
    assert len(text) < 700


# --- less than all checks -------------------------------------------------------------------------


def test_warn_goes_on_and_says_all_that_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    pair = server_pair("a.example", authority=None)
    talk = Talk(client_options(verify="warn"), server_options(pair))
    assert talk.is_up
    first, second = [record.getMessage() for record in caplog.records]
    assert first.startswith("TLS: tls://server: the certificate 'CN=a.example': it is self-signed")
    assert "is of a.example, not of localhost; accepted, as verify='warn' says" in second


def test_warn_says_that_a_client_has_no_certificate(caplog: pytest.LogCaptureFixture) -> None:
    server = server_options(mutual=True, verify="warn")
    talk = Talk(client_options(), server)
    assert talk.is_up
    assert not talk.server.is_mutual
    assert "tls://client: the client has sent no certificate; accepted" in caplog.text
    caplog.clear()
    assert Talk(client_options(client_pair()), server).is_up
    assert not caplog.records


def test_each_cause_is_warned_of_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    monkeypatch.setattr(tls, "monotonic", clock.now)
    server = server_options(mutual=True, verify="warn")
    strangers = [client_options(client_pair(f"name-{n}", authority=None)) for n in range(2)]
    for minute in range(2):
        for options in (*strangers, client_options()) * 3:
            assert Talk(options, server).is_up
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 2
        assert "CN=name-0': it is self-signed, and not trusted; accepted, as" in lines[0]
        assert "the client has sent no certificate; accepted, as" in lines[1]
        if minute:
            assert lines[0].endswith(" (5 more since the last such line)")
            assert lines[1].endswith(" (2 more since the last such line)")
        caplog.clear()
        clock.advance(60.0)


def test_a_client_warns_of_each_server(caplog: pytest.LogCaptureFixture) -> None:
    options = client_options(verify="warn")
    pem = server_pair("localhost", authority=None).certificate_pem
    found = crypto.load_certificate(crypto.FILETYPE_PEM, pem)
    for name in ("tls://one", "tls://two", "tls://two"):
        assert Judge(options, name, server_side=False, server_name="localhost")(found, 18, 0, False)
    assert [record.getMessage().partition(": the")[0] for record in caplog.records] == [
        "TLS: tls://one",
        "TLS: tls://two",
    ]


def test_none_takes_anybody_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    pair = server_pair("a.example", authority=None)
    assert Talk(TlsOptions(verify="none"), server_options(pair)).is_up
    assert not caplog.records
