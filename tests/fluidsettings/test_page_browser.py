"""The web page in a real browser: it is read, a value is set, and changes appear by themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser_ground import Browser
from network_ground import until
from settings_ground import defined
from settings_near import HELLO

from edgevent import Address
from edgevent.fluidsettings.store import Store
from edgevent.fluidsettings.web import WebPage

TOKEN = "sesame open"
GREETING = "#s\\:hello\\:\\:greeting"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[tuple[WebPage, Store, str]]:
    store = Store(tmp_path / "settings.db", defined(HELLO))
    found = WebPage(store, Address.parse("tcp://127.0.0.1:0"), token=TOKEN)
    found.start()
    yield found, store, found.addresses[0].replace("tcp", "http")
    found.close()
    store.close()


@pytest.fixture
def driver(need_tool: Callable[..., str]) -> str:
    need_tool("chromium", package="chromium")
    return need_tool("chromedriver", package="chromium-driver")


def test_a_person_reads_sets_and_sees_what_others_set(
    page: tuple[WebPage, Store, str], driver: str
) -> None:
    web, store, address = page
    nasty = "<script>document.title='bad'</script> & \"more\""
    store.put("hello::name", nasty, who="cli")
    with Browser(driver) as browser:
        browser.open(address)
        assert browser.read("document.title") == "Settings"
        browser.wait("body[data-live=yes] #live", "by themselves")
        assert browser.text("#s\\:hello\\:\\:name td.value") == nasty
        assert "default" in browser.text(f"{GREETING} td.value")
        # Somebody else changes a setting: this page shows it.
        store.put("hello::greeting", "Good morning", who="cli")
        browser.wait(f"{GREETING} td.value", "Good morning")
        browser.wait("#live", "hello::greeting has changed")
        assert "cli" in browser.text(f"{GREETING} td:last-child")
        store.delete("hello::greeting")
        browser.wait(f"{GREETING} td.value", "default")
        if folder := os.environ.get("EDGEVENT_SCREENSHOTS"):
            browser.screenshot(Path(folder) / "overview.png")
        # Signing in, a value that is refused, and one that is taken.
        browser.click("header a[href=login]")
        browser.write("input[name=name]", "Ann")
        browser.write("input[name=token]", TOKEN)
        browser.click("form.edit button")
        browser.wait("header", "signed in as Ann")
        browser.click("#s\\:hello\\:\\:pause th a")
        browser.write("#value", "99")
        browser.click("button[value=set]")
        browser.wait("[role=alert]", "an integer from 1 to 60 was expected")
        assert store.current("hello::pause") is None
        assert browser.read("document.getElementById('value').value") == "99"
        browser.write("#value", "9")
        browser.click("button[value=set]")
        browser.wait("p.done", "The value is set.")
        entry = store.current("hello::pause")
        assert entry is not None
        assert (entry.value, entry.priority) == ("9", 50)
        assert entry.who.startswith("Ann (web page")
        # The page of one setting is kept up to date as well, but not what is being written.
        browser.wait("body[data-live=yes] #live", "by themselves")
        store.put("hello::pause", "10", who="cli")
        browser.wait("#state", "Value: 10")
        assert browser.read("document.getElementById('value').value") == "10"
        browser.write("#value", "5")
        store.put("hello::pause", "11", 90, who="cli")
        browser.wait("#state", "90 (holds)")
        assert browser.read("document.getElementById('value').value") == "5"
        if folder:
            browser.screenshot(Path(folder) / "setting.png")
        browser.click("button[value=delete]")
        browser.wait("p.done", "The value of this priority is deleted.")
        assert [one.priority for one in store.get_all("hello::pause")] == [90]
        browser.click("header button")
        browser.wait("header", "Sign in")
        assert browser.read("document.title") == "Settings"
    until(lambda: not len(web.events) or store.put("hello::name", "x"))


def test_without_javascript_it_is_read_and_written_all_the_same(
    page: tuple[WebPage, Store, str], driver: str
) -> None:
    _, store, address = page
    with Browser(driver, scripts=False) as browser:
        browser.open(f"{address}/login")
        browser.write("input[name=token]", TOKEN)
        browser.click("form.edit button")
        browser.wait("header", "signed in as somebody")
        assert browser.text("#live") == ""
        browser.click("#s\\:hello\\:\\:loud th a")
        browser.click("#value option:first-child")
        browser.click("button[value=set]")
        browser.wait("p.done", "The value is set.")
        assert store.get("hello::loud") == "true"
        browser.open(address)
        assert browser.text("#s\\:hello\\:\\:loud td.value") == "true"
