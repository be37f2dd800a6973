"""ed-keys: from nothing to keys that OpenSSL accepts, and how it ends."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from running import environment
from tool_ground import examples_of

from edgevent import Certificate, KeyPair, make_authority, make_certificate
from edgevent.tools.ed_keys import main

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "ed-keys"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, empty, without any configuration of the machine's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_three_commands_make_what_mutual_tls_needs(
    folder: Path, need_tool: Callable[..., str]
) -> None:
    openssl = need_tool("openssl", package="openssl")
    for words in (["ca"], ["server"], ["client", "alice"]):
        done = subprocess.run(
            [sys.executable, SCRIPT, *words],
            cwd=folder,
            env=environment(folder),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
    keys = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder / "keys").iterdir()}
    assert sorted(keys) == [
        "ca.crt", "ca.key", "client.crt", "client.key", "server.crt", "server.key",
    ]  # fmt: skip
    assert {mode for name, mode in keys.items() if name.endswith(".key")} == {0o600}
    for role, purpose in (("server", "sslserver"), ("client", "sslclient")):
        words = f"verify -x509_strict -purpose {purpose} -CAfile keys/ca.crt keys/{role}.crt"
        said = subprocess.run(
            [openssl, *words.split()], capture_output=True, text=True, timeout=30, check=True
        )
        assert said.stdout == f"keys/{role}.crt: OK\n"


def test_it_says_what_it_has_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ca", "--folder=k", "Our own"]) == 0
    assert main(["server", "--folder", "k"]) == 0
    assert main(["client", "--folder", "k", "alice", "--name", "alice"]) == 0
    assert main(["client", "--folder", "k", "Bob Smith", "--name=bob", "--key=rsa:2048"]) == 0
    assert main(["server", "--folder", "k", "--name=quiet", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    date = r"2\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.sub(date, "DATE", said.out).splitlines() == [
        "k/ca.crt: CN=Our own; valid until DATE",
        "k/ca.key: its private key, EC P-256",
        "k/server.crt: localhost, 127.0.0.1, ::1; valid until DATE",
        "k/server.key: its private key, EC P-256",
        "k/alice.crt: alice; valid until DATE",
        "k/alice.key: its private key, EC P-256",
        "k/bob.crt: CN=Bob Smith; valid until DATE",
        "k/bob.key: its private key, RSA 2048",
    ]


def test_names_and_dates_are_those_asked_for(
    folder: Path, need_tool: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ca", "--not-before=2020-01-01", "--not-after=2040-01-01T12:00:00+02:00"]) == 0
    words = ["--not-before", "2030-01-01T00:00:00Z", "--days=5", "--both"]
    assert main(["server", *words, "*.example.com", "10.0.0.1"]) == 0
    authority = Certificate.read("keys/ca.crt")
    assert authority.not_before.isoformat() == "2020-01-01T00:00:00+00:00"
    assert authority.not_after.isoformat() == "2040-01-01T10:00:00+00:00"
    server = Certificate.read("keys/server.crt")
    assert server.not_before.isoformat() == "2030-01-01T00:00:00+00:00"
    assert server.not_after.isoformat() == "2030-01-06T00:00:00+00:00"
    assert (server.names, str(server.addresses[0])) == (("*.example.com",), "10.0.0.1")
    openssl = need_tool("openssl", package="openssl")
    text = subprocess.run(
        [openssl, "x509", "-noout", "-text", "-in", "keys/server.crt"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in text
    assert "Not Before: Jan  1 00:00:00 2030 GMT" in text
    assert "DNS:*.example.com, IP Address:10.0.0.1" in text


def test_a_certificate_that_outlives_its_authority_is_pointed_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["ca", "--days=3", "--quiet"]) == 0
    assert main(["client", "alice", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(
        r"ed-keys: the authority is valid until .* UTC, which is sooner\n", said.err
    )


def test_an_option_may_come_first_and_from_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEVENT_ED_KEYS_FOLDER", "other")
    assert main(["--quiet", "ca"]) == 0
    assert (folder / "other" / "ca.key").exists()


# --- show -----------------------------------------------------------------------------------------


def test_show_prints_the_facts_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ca", "--quiet"]) == 0
    assert main(["server", "--quiet", "--days=30"]) == 0
    assert main(["show", "keys/ca.crt", "keys/server.crt"]) == 0
    lines = capsys.readouterr().out.splitlines()
    server = Certificate.read("keys/server.crt")
    assert lines[0] == "keys/ca.crt:"
    assert "  issuer: CN=edgevent authority (itself)" in lines[:10]
    assert "  may sign others: yes" in lines[:10]
    assert lines[10:] == [
        "keys/server.crt:",
        "  subject: CN=localhost",
        "  issuer: CN=edgevent authority",
        f"  valid from: {server.not_before:%Y-%m-%d %H:%M:%S} UTC",
        f"  valid until: {server.not_after:%Y-%m-%d %H:%M:%S} UTC (30 days left)",
        "  names: localhost, 127.0.0.1, ::1",
        "  may sign others: no",
        "  key: EC P-256",
        f"  serial number: {server.serial_number:x}",
        f"  fingerprint: {server.fingerprint}",
    ]


@pytest.mark.parametrize(
    ("option", "sentence"),
    [("--not-after=2020-01-01", "expired"), ("--not-before=2100-01-01", "not yet valid")],
)
def test_show_says_that_it_is_not_valid(
    capsys: pytest.CaptureFixture[str], option: str, sentence: str
) -> None:
    assert main(["ca", "--quiet", option]) == 0
    assert main(["show", "keys/ca.crt"]) == 0
    assert f"({sentence}" in capsys.readouterr().out


def test_show_prints_a_whole_chain(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    between = make_authority("between", parent=make_authority())
    make_certificate(between, common_name="Alice Smith").write(folder, "me")
    assert main(["show", "me.crt"]) == 0
    shown = capsys.readouterr().out
    assert re.findall(r"^(?:me\.crt:|  subject: .*|  names: .*)$", shown, re.MULTILINE) == [
        "me.crt:",
        "  subject: CN=Alice Smith",
        "  names: none",
        "me.crt:",
        "  subject: CN=between",
        "  names: none",
    ]


def test_show_sends_no_escape_sequence_to_the_terminal(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    odd = make_certificate(None, ["aQQQQ"]).certificate.der
    (folder / "odd.crt").write_bytes(odd.replace(b"aQQQQ", b"a\x1b[2J"))
    assert main(["show", "odd.crt"]) == 0
    shown = capsys.readouterr().out
    assert "  subject: CN=a\\1B[2J\n" in shown
    assert "  names: a\\x1b[2J\n" in shown


def test_show_goes_on_after_a_file_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["ca", "--quiet"]) == 0
    assert main(["show", "missing", "keys/ca.key", "keys/ca.crt"]) == 2
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "ed-keys: missing: No such file or directory",
        "ed-keys: keys/ca.key: holds a PRIVATE KEY, where a CERTIFICATE was expected",
    ]
    assert "keys/ca.crt:" in said.out


# --- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "expected one of ca, server, client, show; --help tells more"),
        (["sever"], "'sever': expected one of ca, server, client, show; did you mean 'server'?"),
        (["xyz"], "'xyz': expected one of ca, server, client, show"),
        (["client"], "client: expected a name, such as alice"),
        (["show"], "show: expected files, such as keys/server.crt"),
        (["ca", "a", "b"], "argument 'b': expected one name; one with blanks needs quotes"),
        (["server", "127.0.0.256"], "name '127.0.0.256': expected a DNS name such as"),
        (["server", "--days=0"], "0 days: expected 1 or more"),
        (["server", "--name=../x"], "file name '../x': expected 230 bytes at most"),
        (["server", "--name="], "file name '': expected 230 bytes at most"),
    ],
)
def test_bad_usage_ends_with_2(
    capsys: pytest.CaptureFixture[str], folder: Path, words: list[str], sentence: str
) -> None:
    assert main(["ca", "--quiet"]) == 0
    before = sorted(folder.rglob("*"))
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"ed-keys: {sentence}")
    assert len(said.err.splitlines()) == 1
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--key=rsa:2408", "did you mean rsa:2048?"),
        ("--key=x", "key 'x': expected one of ec:P-256, ec:P-384"),
        ("--not-after=2030", "time '2030': expected a date such as 2030-12-31"),
        ("--dais=3", "did you mean '--days'?"),
        ("--days=many", "value 'many': expected int"),
    ],
)
def test_a_bad_option_ends_with_2(
    capsys: pytest.CaptureFixture[str], option: str, sentence: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["server", option])
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_what_is_there_is_kept_without_force(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert main(["ca", "--quiet"]) == 0
    first = Certificate.read("keys/ca.crt")
    assert main(["ca", "--quiet"]) == 1
    assert "keys/ca.key: is there already, and without force is not" in capsys.readouterr().err
    assert Certificate.read("keys/ca.crt") == first
    assert main(["ca", "--quiet", "--force"]) == 0
    assert Certificate.read("keys/ca.crt") != first


def test_without_an_authority_nothing_is_signed(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert main(["server"]) == 1
    said = "ed-keys: keys/ca.crt: No such file or directory; 'ed-keys ca' makes an authority\n"
    assert capsys.readouterr().err == said
    make_certificate(None, ["a"]).write("keys", "ca")
    assert main(["server"]) == 1
    assert capsys.readouterr().err == "ed-keys: keys/ca.crt: the certificate is no authority\n"
    make_authority().write("keys", "ca", force=True)
    (folder / "keys" / "ca.key").chmod(0o644)
    assert main(["server"]) == 1
    assert "keys/ca.key: a private key that others can read" in capsys.readouterr().err
    assert sorted(path.name for path in (folder / "keys").iterdir()) == ["ca.crt", "ca.key"]


def test_the_pair_it_makes_can_be_read_back() -> None:
    assert main(["ca", "--quiet"]) == 0
    assert KeyPair.read("keys", "ca").certificate.is_authority


# --- the manual pages -----------------------------------------------------------------------------


def man_page(name: str) -> str:
    return (ROOT / "scripts" / "man" / f"{name}.1").read_text(encoding="utf-8").replace("\\-", "-")


@pytest.mark.parametrize("name", ["check-certificate", "ed-keys", "verify-message-definitions"])
def test_the_manual_page_has_each_option_of_the_tool(folder: Path, name: str) -> None:
    shown = subprocess.run(
        [sys.executable, ROOT / "scripts" / name, "--help"],
        env={**environment(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    options = set(re.findall(r"(?<![\w-])--[a-z-]+[a-z]", shown.partition("options:")[2]))
    page = man_page(name)
    assert {"--help", "--version", "--config"} < options
    # What every tool has stands in the page as one sentence.
    assert {option for option in options if option not in page} == set()
    assert {word for word in re.findall(r"--[a-z-]+[a-z]", page) if word not in options} == set()


@pytest.mark.parametrize("name", ["check-certificate", "ed-keys", "verify-message-definitions"])
def test_the_manual_page_is_installed(name: str) -> None:
    config = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    assert f"    scripts/man/{name}.1\n" in config
    assert f"    scripts/{name}\n" in config


def test_the_commands_of_the_manual_page_run(folder: Path) -> None:
    lines = examples_of("ed-keys")
    assert len(lines) == 5
    for line in lines:
        done = subprocess.run(
            ["sh", "-c", f'exec "$0" "$1" {line.removeprefix("ed-keys ")}', sys.executable, SCRIPT],
            env=environment(folder),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
