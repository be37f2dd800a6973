"""The style and the script of the web page."""

from __future__ import annotations

from typing import Final

STYLE: Final = """\
:root { color-scheme: light dark; --line: #8884; --dim: #767676; --mark: #ffd54a66; }
@media (prefers-color-scheme: dark) { :root { --dim: #a0a0a0; } }
body { font: 1rem/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; }
header { align-items: baseline; display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; }
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; padding: 0; }
table { border-collapse: collapse; table-layout: fixed; width: 100%; }
th, td { border-bottom: 1px solid var(--line); overflow-wrap: anywhere; padding: .35rem .6rem;
  text-align: left; vertical-align: top; }
thead th { color: var(--dim); font-weight: 600; }
tbody th { font-weight: 600; }
table.all th:nth-child(1) { width: 26%; } table.all th:nth-child(2) { width: 24%; }
table.all th:nth-child(3) { width: 6rem; } table.all th:nth-child(5) { width: 20%; }
table.one th:nth-child(1) { width: 8rem; } table.one th:nth-child(3) { width: 40%; }
code { font: .95em ui-monospace, monospace; unicode-bidi: isolate; white-space: pre-wrap; }
.help, .dim { color: var(--dim); font-size: .9rem; font-weight: 400; margin: 0; }
.changed { animation: changed 3s; }
@keyframes changed { from { background: var(--mark); } }
@media (prefers-reduced-motion: reduce) { .changed { animation: none; outline: 2px solid; } }
form.edit { border: 1px solid var(--line); border-radius: .4rem; display: grid; gap: .6rem;
  margin: 1rem 0; max-width: 40rem; padding: 1rem; }
form.inline { display: inline; }
label { display: grid; gap: .2rem; }
input, textarea, select, button { font: inherit; padding: .3rem .5rem; }
.error { border-left: .3rem solid #c62828; margin: 1rem 0; padding: .4rem .8rem; }
.done { border-left: .3rem solid #2e7d32; margin: 1rem 0; padding: .4rem .8rem; }
#live { color: var(--dim); font-size: .9rem; margin: .3rem 0; min-height: 1.4em; }
"""

# The page is whole without it: it exchanges parts that the server has made for those that changed.
SCRIPT: Final = """\
"use strict";
(() => {
  const live = document.getElementById("live");
  const own = document.body.dataset.name;
  let number = Number(document.body.dataset.number);
  const fetching = new Map();

  async function part(address) {
    const answer = await fetch(address, {credentials: "same-origin"});
    if (!answer.ok) throw new Error(answer.status);
    const found = document.createElement("template");
    found.innerHTML = await answer.text();
    return found.content.firstElementChild;
  }

  async function renew(name) {
    const id = own ? "state" : "s:" + name;
    const old = document.getElementById(id);
    if (!old || (own && own !== name)) return;
    const address = (own ? "state" : "row") + "?name=" + encodeURIComponent(name);
    const made = await part(address);
    document.getElementById(id).replaceWith(made);
    made.classList.add("changed");
    const field = document.getElementById("value");
    if (own && field && field.value === field.dataset.first) {
      field.value = field.dataset.first = made.dataset.value;
    }
    live.textContent = name + " has changed";
  }

  // One question at a time for each name; what changes meanwhile is asked for once more.
  async function ask(name) {
    if (fetching.has(name)) { fetching.set(name, true); return; }
    do {
      fetching.set(name, false);
      try { await renew(name); } catch (error) { live.textContent = "not up to date: " + error; }
    } while (fetching.get(name));
    fetching.delete(name);
  }

  async function renewAll() {
    if (own) { await ask(own); return; }
    for (const row of document.querySelectorAll("tr[data-name]")) await ask(row.dataset.name);
  }

  const field = document.getElementById("value");
  if (field) field.dataset.first = field.value;
  const source = new EventSource("events");
  source.addEventListener("hello", (event) => {
    const now = JSON.parse(event.data).number;
    if (now !== number) renewAll();
    number = now;
    document.body.dataset.live = "yes";
    live.textContent = "changes appear by themselves";
  });
  source.addEventListener("change", (event) => {
    const news = JSON.parse(event.data);
    number = news.number;
    ask(news.name);
  });
  source.addEventListener("error", () => {
    document.body.dataset.live = "no";
    live.textContent = "the connection is lost; changes are not shown";
  });
})();
"""
