"""Authorities and certificates that we make: what OpenSSL says of them, and how they are kept."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from edgevent import (
    Certificate,
    CertificateFileError,
    KeyPair,
    UsageError,
    make_authority,
    make_certificate,
)
from edgevent.keymaking import KEYS, is_name

AUTHORITY = make_authority()
PAIR = make_certificate(AUTHORITY, ["localhost", "127.0.0.1"])
NOW = datetime.now(timezone.utc).replace(microsecond=0)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)

Verify = Callable[..., str]


@pytest.fixture
def verify(tmp_path: Path, need_tool: Callable[..., str]) -> Verify:
    """Give ``verify(pair, *options)``: what ``openssl verify -x509_strict`` says of a pair."""
    openssl = need_tool("openssl", package="openssl")

    def run(pair: KeyPair, *options: str, authority: KeyPair = AUTHORITY) -> str:
        crt, _ = pair.write(tmp_path, "pair", force=True)
        ca, _ = authority.write(tmp_path, "ca", force=True)
        done = subprocess.run(
            [openssl, "verify", "-x509_strict", "-CAfile", ca, "-untrusted", crt, *options, crt],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return f"{done.stdout}{done.stderr}".replace(f"{crt}: ", "")

    return run


# --- what OpenSSL says of them --------------------------------------------------------------------


@pytest.mark.parametrize("key", [key for key in KEYS if key not in ("rsa:3072", "rsa:4096")])
def test_openssl_accepts_each_kind_of_key(verify: Verify, key: str) -> None:
    authority = make_authority(key=key)
    pair = make_certificate(authority, ["localhost"], key=key)
    assert verify(pair, "-auth_level", "2", authority=authority) == "OK\n"
    assert verify(authority, authority=authority) == "OK\n"
    assert pair.certificate.key == key.replace(":", " ").upper()


@pytest.mark.parametrize(
    ("usage", "purpose", "accepted"),
    [
        ("server", "sslserver", True),
        ("server", "sslclient", False),
        ("client", "sslserver", False),
        ("client", "sslclient", True),
        ("both", "sslserver", True),
        ("both", "sslclient", True),
    ],
)
def test_a_certificate_is_good_for_its_usage_only(
    verify: Verify, usage: str, purpose: str, accepted: bool
) -> None:
    pair = make_certificate(AUTHORITY, ["localhost"], usage=usage)  # type: ignore[arg-type]
    said = verify(pair, "-purpose", purpose)
    assert said == "OK\n" if accepted else "certificate purpose" in said


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        (["-verify_hostname", "localhost"], True),
        (["-verify_hostname", "a.example.com"], True),
        (["-verify_ip", "127.0.0.1"], True),
        (["-verify_ip", "::1"], True),
        (["-verify_hostname", "example.com"], False),
        (["-verify_hostname", "a.b.example.com"], False),
        (["-verify_ip", "127.0.0.2"], False),
    ],
)
def test_a_certificate_is_for_its_names_only(
    verify: Verify, options: list[str], accepted: bool
) -> None:
    pair = make_certificate(AUTHORITY, ["localhost", "127.0.0.1", "::1", "*.example.com"])
    said = verify(pair, *options)
    assert said == "OK\n" if accepted else "mismatch" in said


def test_a_name_that_is_too_long_for_a_common_name(verify: Verify) -> None:
    name = f"{'a' * 63}.example.com"
    pair = make_certificate(AUTHORITY, [name])
    assert (pair.certificate.subject, pair.certificate.names) == ("", (name,))
    assert verify(pair, "-verify_hostname", name) == "OK\n"


def test_an_authority_between_comes_with_what_it_signs(verify: Verify) -> None:
    between = make_authority("between", parent=AUTHORITY)
    below = make_authority("below", parent=between)
    pair = make_certificate(below, ["localhost"])
    chain = (pair.certificate, below.certificate, between.certificate)
    assert pair.certificate_pem == b"".join(one.pem for one in chain)
    assert verify(pair) == "OK\n"
    assert "unable to get local issuer" in verify(pair, authority=make_authority("other"))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: make_certificate(None, ["localhost"]), "self-signed certificate"),
        (lambda: make_certificate(make_authority(), ["localhost"]), "certificate"),
        (lambda: make_certificate(AUTHORITY, ["a"], not_after=NOW - DAY), "has expired"),
        (lambda: make_certificate(AUTHORITY, ["a"], not_before=NOW + DAY), "not yet valid"),
        (lambda: make_certificate(AUTHORITY, ["a"], key="rsa:1024", allow_weak=True), "too weak"),
    ],
    ids=["self-signed", "other authority", "expired", "not yet valid", "weak key"],
)
def test_openssl_refuses_what_is_made_to_be_refused(
    verify: Verify, make: Callable[[], KeyPair], sentence: str
) -> None:
    said = verify(make(), "-auth_level", "2")
    assert "verification failed" in said
    assert sentence in said


def test_a_common_name_that_is_no_name(verify: Verify) -> None:
    pair = make_certificate(AUTHORITY, common_name="Alice Smith", usage="client")
    assert pair.certificate.subject == "CN=Alice Smith"
    assert pair.certificate.names == ()
    assert verify(pair, "-purpose", "sslclient") == "OK\n"


def test_serial_numbers_are_random_and_names_single() -> None:
    pairs = [make_certificate(AUTHORITY, ["a", "b", "a"]) for _ in range(3)]
    assert len({pair.certificate.serial_number for pair in pairs}) == 3
    assert {pair.certificate.names for pair in pairs} == {("a", "b")}


# --- dates ----------------------------------------------------------------------------------------


def test_the_dates_by_default() -> None:
    before = datetime.now(timezone.utc).replace(microsecond=0)
    for made, days in ((make_authority(), 3_650), (make_certificate(AUTHORITY, ["a"]), 365)):
        facts = made.certificate
        assert facts.not_after - facts.not_before == timedelta(days=days, hours=1)
        assert before <= facts.not_before + HOUR <= datetime.now(timezone.utc)


@pytest.mark.parametrize(
    ("days", "begin", "end", "dates"),
    [
        (5, NOW, None, (NOW, NOW + 5 * DAY)),
        (None, NOW, NOW + DAY, (NOW, NOW + DAY)),
        (2, None, NOW - 3 * DAY, (NOW - 5 * DAY, NOW - 3 * DAY)),
        (None, NOW + DAY, None, (NOW + DAY, NOW + 366 * DAY)),
    ],
)
def test_dates_of_ones_own(
    days: int | None,
    begin: datetime | None,
    end: datetime | None,
    dates: tuple[datetime, datetime],
) -> None:
    made = make_certificate(AUTHORITY, ["a"], days=days, not_before=begin, not_after=end)
    assert (made.certificate.not_before, made.certificate.not_after) == dates


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"names": "localhost"}, "names 'localhost': expected a list of names, not one text"),
        ({"names": []}, "a certificate without a name: expected names or a common name"),
        ({"usage": "servers"}, "usage 'servers': expected one of server, client, both"),
        ({"key": "rsa:2408"}, r"key 'rsa:2408': expected one of ec:P-256.*mean rsa:2048\?"),
        ({"key": "x"}, "key 'x': expected one of .* rsa:4096$"),
        ({"key": "rsa:1024"}, "key 'rsa:1024': expected one of"),
        ({"common_name": "é" * 33}, "common name 'é+': expected 64 bytes at most"),
        ({"common_name": "a\nb"}, r"common name 'a\\nb': .* without control characters"),
        ({"days": 0}, "0 days: expected 1 or more"),
        ({"days": 10_000_000}, "10000000 days: expected an end before the year 10000"),
        ({"not_after": datetime(2026, 1, 1)}, "2026-01-01T00:00:00 has no time zone"),
        ({"not_before": datetime(2026, 1, 1)}, "2026-01-01T00:00:00 has no time zone"),
        ({"not_before": NOW, "not_after": NOW - DAY}, "the earlier one first"),
        ({"not_before": NOW.replace(year=1949)}, "expected dates from 1950 on"),
        ({"authority": PAIR}, "CN=localhost is no authority: it may not sign"),
    ],
)
def test_an_argument_that_cannot_be_right(settings: dict[str, object], sentence: str) -> None:
    arguments = {"authority": AUTHORITY, "names": ["localhost"], **settings}
    with pytest.raises(UsageError, match=sentence):
        make_certificate(**arguments)  # type: ignore[arg-type]


def test_an_authority_needs_a_name() -> None:
    with pytest.raises(UsageError, match="an authority without a name"):
        make_authority("")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "*",
        "a.*.com",
        "www.*",
        "a..b",
        ".a",
        "a.",
        "-a",
        "a-",
        "a b",
        "exämple.com",
        "127.0.0.256",
        "1234",
        "fe80::1%eth0",
        "[::1]",
        "127.0.0.1:80",
        "a" * 64,
        ".".join(["a" * 50] * 5),
        "a\n",
    ],
)
def test_a_name_that_is_none(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(UsageError, match=r"^name '.*: expected a DNS name such as www\.example"):
        make_certificate(AUTHORITY, ["localhost", name])


@pytest.mark.parametrize("name", ["a", "A-1.b_c.d2", "*.local", "1.2.c3", "127.0.0.1", "fe80::1"])
def test_a_name_that_is_one(name: str) -> None:
    assert is_name(name)
    facts = make_certificate(AUTHORITY, [name]).certificate
    assert [*facts.names, *map(str, facts.addresses)] == [name]


# --- files ----------------------------------------------------------------------------------------


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.fixture(params=[0o000, 0o077], ids=["umask 000", "umask 077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_the_key_is_for_its_owner_and_the_certificate_for_all(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "keys"
    assert PAIR.write(folder, "me") == (folder / "me.crt", folder / "me.key")
    assert modes(folder) == {"me.crt": 0o644, "me.key": 0o600}
    assert KeyPair.read(folder, "me") == PAIR
    assert (folder / "me.crt").read_bytes() == PAIR.certificate_pem
    assert b"-----BEGIN PRIVATE KEY-----" in (folder / "me.key").read_bytes()


def test_nobody_else_can_read_the_key_at_any_moment(
    tmp_path: Path, need_tool: Callable[..., str]
) -> None:
    strace = need_tool("strace", package="strace")
    trace = tmp_path / "trace"
    program = (
        "import os, edgevent; os.umask(0); ca = edgevent.make_authority();"
        f"ca.write({str(tmp_path / 'keys')!r}, 'ca'); ca.write({str(tmp_path / 'keys')!r}, 'ca',"
        " force=True)"
    )
    calls = "trace=openat,chmod,fchmod,link,linkat,rename,renameat2"
    subprocess.run(
        [strace, "-f", "-y", "-e", calls, "-o", trace, sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=50,
        check=True,
    )
    seen = [line for line in trace.read_text().splitlines() if "/keys/.ca.key" in line]
    made = [line for line in seen if "openat" in line]
    assert len(made) == 2
    assert all("O_CREAT|O_EXCL|O_CLOEXEC, 0600)" in line for line in made)
    assert all("0600) = 0" in line for line in seen if "chmod" in line)
    assert len([line for line in seen if "link" in line or "rename" in line]) == 2


@pytest.mark.parametrize("there", ["me.crt", "me.key"])
def test_what_is_there_is_replaced_only_by_force(tmp_path: Path, there: str) -> None:
    path = tmp_path / there
    path.write_text("precious")
    path.chmod(0o666)
    with pytest.raises(CertificateFileError, match=f"{there}: is there already, and without force"):
        PAIR.write(tmp_path, "me")
    assert list(modes(tmp_path)) == [there]
    assert path.read_text() == "precious"
    PAIR.write(tmp_path, "me", force=True)
    assert modes(tmp_path) == {"me.crt": 0o644, "me.key": 0o600}
    assert KeyPair.read(tmp_path, "me") == PAIR


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    (tmp_path / "me.key").symlink_to(other)
    with pytest.raises(CertificateFileError, match="is there already"):
        PAIR.write(tmp_path, "me")
    PAIR.write(tmp_path, "me", force=True)
    assert other.read_text() == "precious"
    assert not (tmp_path / "me.key").is_symlink()


def test_another_that_writes_at_the_same_time_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_certificate(AUTHORITY, ["other"])
    link = os.link

    def late(draft: Path, path: Path) -> None:
        if path.name == "me.crt":
            path.write_bytes(other.certificate_pem)
        link(draft, path)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(CertificateFileError, match=r"me\.crt: File exists"):
        PAIR.write(tmp_path, "me")
    assert list(modes(tmp_path)) == ["me.crt"]
    assert Certificate.read(tmp_path / "me.crt") == other.certificate


@pytest.mark.parametrize("force", [False, True])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    old = make_certificate(AUTHORITY, ["old"])
    if force:
        old.write(tmp_path, "me")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CertificateFileError, match=r"me\.key: No space left on device"):
        PAIR.write(tmp_path, "me", force=force)
    assert sorted(modes(tmp_path)) == (["me.crt", "me.key"] if force else [])
    if force:
        assert KeyPair.read(tmp_path, "me") == old


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(CertificateFileError, match="file: File exists"):
        PAIR.write(file, "me")
    with pytest.raises(CertificateFileError, match="file/keys: Not a directory"):
        PAIR.write(file / "keys", "me")
    (tmp_path / "me.crt").mkdir()
    with pytest.raises(CertificateFileError, match=r"me\.crt: is there already"):
        PAIR.write(tmp_path, "me", force=True)


@pytest.mark.parametrize("stem", ["", ".", "..", "../me", "a/b", "/me", ".me", "a\0b", "é" * 116])
def test_a_stem_that_is_no_name_of_a_file(tmp_path: Path, stem: str) -> None:
    for use in (PAIR.write, KeyPair.read):
        with pytest.raises(UsageError, match=r"^file name '.*: expected 230 bytes at most"):
            use(tmp_path, stem)
    assert list(tmp_path.iterdir()) == []


def test_a_pair_whose_key_cannot_be_used(tmp_path: Path) -> None:
    _, key = PAIR.write(tmp_path, "me")
    key.chmod(0o644)
    with pytest.raises(CertificateFileError, match=r"me\.key: a private key that others can read"):
        KeyPair.read(tmp_path, "me")
    key.chmod(0o600)
    secret = serialization.BestAvailableEncryption(b"secret")
    pkcs8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    private = serialization.load_pem_private_key(PAIR.key_pem, None)
    for content, sentence in {
        AUTHORITY.key_pem: "the key is not that of the certificate",
        PAIR.certificate_pem: "there is no private key that can be read",
        private.private_bytes(*pkcs8, secret): "expected a key without a password",
    }.items():
        key.write_bytes(content)
        with pytest.raises(CertificateFileError, match=rf"me\.key: {sentence}"):
            KeyPair.read(tmp_path, "me")


def test_a_pair_with_a_key_of_another_kind(tmp_path: Path, need_tool: Callable[..., str]) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "me.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (tmp_path / "me.key").chmod(0o600)
    openssl = need_tool("openssl", package="openssl")
    words = "req -x509 -key me.key -subj /CN=me -days 3 -out me.crt"
    subprocess.run([openssl, *words.split()], cwd=tmp_path, timeout=30, check=True)
    with pytest.raises(CertificateFileError, match="expected a key of the kind EC or RSA"):
        KeyPair.read(tmp_path, "me")


@pytest.mark.parametrize("identifier", ["hash", "none"])
def test_an_authority_that_openssl_made_may_sign(
    tmp_path: Path, need_tool: Callable[..., str], verify: Verify, identifier: str
) -> None:
    openssl = need_tool("openssl", package="openssl")
    words = (
        "req -x509 -newkey rsa:2048 -nodes -subj /O=Ours/CN=ca -days 3 -keyout me.key -out me.crt"
        f" -addext keyUsage=critical,keyCertSign -addext subjectKeyIdentifier={identifier}"
    )
    subprocess.run(
        [openssl, *words.split()], cwd=tmp_path, capture_output=True, timeout=30, check=True
    )
    (tmp_path / "me.key").chmod(0o600)
    authority = KeyPair.read(tmp_path, "me")
    pair = make_certificate(authority, ["localhost"])
    assert pair.certificate.issuer_fields["organization"] == "Ours"
    # OpenSSL is strict about the identifier of an authority as well.
    said = verify(pair, authority=authority)
    assert said == "OK\n" or (identifier == "none" and "Missing Subject Key Identifier" in said)


def test_the_key_is_not_shown() -> None:
    assert "PRIVATE" not in repr(PAIR)
    assert "key_pem" not in repr(PAIR)
