"""The options for the links to other daemons."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import ROOT
from tls_ground import authority, server_pair
from tool_ground import run

from edgevent import CertificateFileError, OptionError
from edgevent.communicatord.link_options import add_link_options, link_settings, make_folder
from edgevent.communicatord.link_settings import LinkSettings
from edgevent.communicatord.options import add_options
from edgevent.options import OptionParser


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A certificate, its key and its authority."""
    pair = server_pair("10.0.0.5", usage="both")
    texts = {
        "certificate": pair.certificate_pem,
        "private-key": pair.key_pem,
        "ca": authority().certificate_pem,
    }
    for name, text in texts.items():
        path = tmp_path / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_bytes(text)
    return {name: f"--{name}={tmp_path}/{name}.pem" for name in texts}


def settings(*words: str) -> LinkSettings:
    parser = OptionParser("communicatord", "x", config_folder="/nowhere")
    add_options(parser)
    add_link_options(parser)
    return link_settings(parser.read(list(words)))


def test_without_options_there_are_no_links() -> None:
    assert settings() == LinkSettings(learns=True)
    assert settings("--remote-listen=off", "--secure-listen=none").plain is None


def test_what_is_given_is_taken(files: dict[str, str], tmp_path: Path) -> None:
    found = settings(
        "--remote-listen=10.0.0.5",
        "--secure-listen=cds://203.0.113.5",
        "--neighbors=10.0.0.9, tls://203.0.113.9",
        "--my-address=10.0.0.5:4042",
        "--max-links=7",
        "--max-gossip-timeout=1m",
        f"--data-path={tmp_path}/kept",
        "--fixed-neighbors",
        "--allow-link-control",
        *files.values(),
    )
    assert str(found.plain) == "tcp://10.0.0.5:4042"
    assert str(found.secure) == "tls://203.0.113.5:4043"
    assert [str(one) for one in found.neighbors] == [
        "tcp://10.0.0.9:4042",
        "tls://203.0.113.9:4043",
    ]
    assert found.my_address is not None
    assert found.tls is not None
    assert found.tls.mutual
    assert (found.max_links, found.max_gossip_pause, found.learns) == (7, 60.0, False)
    assert found.allow_control
    make_folder(found)
    assert (tmp_path / "kept").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match=r"data-path .*/file/x: "):
        make_folder(LinkSettings(folder=tmp_path / "file" / "x"))


def test_where_it_is_kept_is_said_by_the_service_manager(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/a:/b")
    assert settings("--remote-listen=10.0.0.5").folder == Path("/a")


def test_the_example_file_is_right(files: dict[str, str]) -> None:
    example = ROOT / "examples" / "communicatord_links.conf"
    found = settings(f"--config={example}", *files.values())  # its own certificates are nowhere
    assert str(found.secure) == "tls://203.0.113.5:4043"
    assert len(found.neighbors) == 3


WRONG = {
    "all": (["--remote-listen=0.0.0.0"], "an address of a private network was expected"),
    "public": (["--remote-listen=203.0.113.5"], "secure-listen is the way"),
    "not plain": (["--remote-listen=tls://10.0.0.5"], "a TCP address was expected"),
    "not encrypted": (["--secure-listen=tcp://10.0.0.5"], "an address of TLS was expected"),
    "no certificate": (
        ["--secure-listen=10.0.0.5"],
        "certificate, private-key and ca were expected",
    ),
    "no listener": (
        ["--neighbors=10.0.0.9"],
        "remote-listen or secure-listen was expected with it",
    ),
    "neighbor": (
        ["--neighbors=127.0.0.2"],
        "neighbors: tcp://127.0.0.2:4042: an address that other",
    ),
    "tls": (["--neighbors=tls://10.0.0.9", "--remote-listen=10.0.0.5"], "certificate, private-key"),
    "key alone": (["--private-key=x"], "private-key: certificate was expected with it"),
    "ca alone": (["--ca=x"], "ca: certificate was expected with it"),
    "no ca": (
        ["--certificate=x", "--secure-listen=10.0.0.5"],
        "certificate: ca was expected with it",
    ),
    "links": (["--max-links=0"], "'0': a number from 1 to 10000 was expected"),
    "gossip": (["--max-gossip-timeout=0.5s"], "expected 1s or more"),
}


@pytest.mark.parametrize(("words", "why"), WRONG.values(), ids=WRONG)
def test_what_contradicts_itself_is_refused(words: list[str], why: str) -> None:
    with pytest.raises(OptionError) as found:
        settings(*words)
    assert why in str(found.value)


def test_loopback_is_taken_when_that_is_said() -> None:
    found = settings(
        "--remote-listen=127.0.0.1:0", "--allow-loopback-links", "--neighbors=127.0.0.2"
    )
    assert found.plain is not None
    assert found.allow_loopback


def test_files_are_looked_at_before_the_start(files: dict[str, str], tmp_path: Path) -> None:
    others = (f"--unix-listen={tmp_path}/socket", "--local-listen=off", "--signal=off")
    good = ("--secure-listen=127.0.0.1:0", "--allow-loopback-links", *files.values(), *others)
    done = run("communicatord", "--check-config", *good, folder=tmp_path)
    assert (done.stderr, done.returncode) == ("", 0)
    (tmp_path / "ca.pem").unlink()
    done = run("communicatord", *good, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("communicatord: ")
    assert "ca.pem" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_certificate_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    found = settings(f"--certificate={tmp_path}/x", f"--ca={tmp_path}/y")
    assert found.tls is not None
    with pytest.raises(CertificateFileError):
        found.tls.context(server_side=True)
