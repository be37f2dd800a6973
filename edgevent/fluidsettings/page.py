"""The HTML of the web page: each text in it is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final
from urllib.parse import quote

from .dates import shown_time
from .definitions import SettingDefinition
from .http_access import Session
from .names import ADMINISTRATOR, MAX_PRIORITY
from .store import Store
from .values import Change, Entry

MAX_ROWS: Final = 500
"""So many settings are on one page; of more, those of one namespace at a time."""

_TITLE: Final = "Settings"


def namespace_of(name: str) -> str:
    """Gives the namespace of a setting."""
    return name.rpartition("::")[0]


def address_of(name: str) -> str:
    """Gives the address of the page of a setting."""
    return f"setting?name={quote(name, safe='')}"


def _code(text: str) -> str:
    return f'<code dir="auto">{escape(text)}</code>'


def _link(name: str, text: str) -> str:
    return f'<a href="{address_of(name)}">{escape(text)}</a>'


def whole_page(
    title: str,
    body: Iterable[str],
    *,
    session: Session | None,
    may_write: bool,
    number: int,
    name: str = "",
) -> str:
    """Makes a page.

    Args:
        body: What stands between head and foot.
        number: Of the last change that it shows.
        name: Of the one setting that it shows, if it shows one.
    """
    own = f' data-name="{escape(name)}"' if name else ""
    return "".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f"<title>{escape(title)}</title>\n",
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<link rel="stylesheet" href="style.css">\n<link rel="icon" href="data:,">\n',
            '<script src="script.js" defer></script>\n</head>\n',
            f'<body data-number="{number}"{own}>\n<header>\n<h1><a href="./">{_TITLE}</a></h1>\n',
            _who(session, may_write),
            '</header>\n<p id="live" role="status"></p>\n<main>\n',
            *body,
            "</main>\n</body>\n</html>\n",
        ]
    )


def _who(session: Session | None, may_write: bool) -> str:
    if session is not None:
        name = escape(session.name) or "somebody"
        return (
            f'<form class="inline" method="post" action="logout">{_mark(session)}'
            f'<span class="dim">signed in as {name}</span> <button>Sign out</button></form>\n'
        )
    if may_write:
        return '<a href="login">Sign in to change settings</a>\n'
    return '<span class="dim">for reading only</span>\n'


def _mark(session: Session) -> str:
    return f'<input type="hidden" name="mark" value="{escape(session.mark)}">'


def error_text(why: str) -> str:
    """Says what went wrong."""
    return f'<p class="error" role="alert">{escape(why)}</p>\n'


def done_text(what: str) -> str:
    """Says what was done."""
    return f'<p class="done" role="status">{escape(what)}</p>\n'


def login_form(name: str = "") -> str:
    """Asks for the token."""
    return (
        '<form class="edit" method="post" action="login">\n'
        '<label>Your name, for the history <input name="name" autocomplete="username"'
        f' maxlength="64" value="{escape(name)}"></label>\n'
        '<label>Token <input name="token" type="password" required'
        ' autocomplete="current-password"></label>\n<button>Sign in</button>\n</form>\n'
    )


# --- all settings ---------------------------------------------------------------------------------


def overview(store: Store, chosen: str, start: int = 0) -> list[str]:
    """Lists the settings by namespace.

    Args:
        chosen: The one namespace that is shown; empty for all, when they are not too many.
        start: The number of the first one that is shown.
    """
    names = store.names()
    spaces: dict[str, list[str]] = {}
    for name in names:
        spaces.setdefault(namespace_of(name), []).append(name)
    parts = [_navigation(spaces, chosen)]
    if not names:
        parts.append("<p>No setting is defined.</p>\n")
    if not chosen and len(names) > MAX_ROWS:
        parts.append(f"<p>{len(names)} settings: choose a namespace.</p>\n")
        return parts
    for space, of_space in spaces.items():
        if chosen in ("", space):
            parts.append(_table(store, space, of_space[start : start + MAX_ROWS]))
            if start + MAX_ROWS < len(of_space) and chosen:
                address = f"?namespace={quote(space, safe='')}&start={start + MAX_ROWS}"
                parts.append(f'<p><a href="{escape(address)}">More</a></p>\n')
    if chosen and chosen not in spaces:
        parts.append(error_text(f"there is no namespace {chosen[:64]!a}"))
    return parts


def _navigation(spaces: dict[str, list[str]], chosen: str) -> str:
    links = []
    for space, names in spaces.items():
        current = ' aria-current="page"' if space == chosen else ""
        address = f"?namespace={quote(space, safe='')}"
        links.append(
            f'<li><a href="{escape(address)}"{current}>{escape(space)}</a>'
            f' <span class="dim">{len(names)}</span></li>\n'
        )
    return f'<nav aria-label="Namespaces"><ul>\n{"".join(links)}</ul></nav>\n'


def _table(store: Store, space: str, names: Sequence[str]) -> str:
    rows = "".join(row(store, name) for name in names)
    return (
        f'<h2>{escape(space)}</h2>\n<table class="all">\n<thead><tr>'
        '<th scope="col">Setting</th><th scope="col">Value</th><th scope="col">Priority</th>'
        '<th scope="col">Type</th><th scope="col">Set by, when</th></tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table>\n"
    )


def row(store: Store, name: str) -> str:
    """Makes the row of a setting."""
    definition = store.definition(name)
    name = definition.name
    entry = store.current(name)
    text = f'<p class="help">{escape(definition.help)}</p>' if definition.help else ""
    return (
        f'<tr id="s:{escape(name)}" data-name="{escape(name)}">'
        f'<th scope="row">{_link(name, name.rpartition("::")[2])}{text}</th>'
        f'<td class="value">{_value(definition, entry)}</td>'
        f"<td>{'' if entry is None else entry.priority}</td>"
        f"<td>{_code(kind_of(definition))}</td><td>{_origin(entry)}</td></tr>\n"
    )


def kind_of(definition: SettingDefinition) -> str:
    """Gives what values a setting takes, as its definition has it."""
    return definition.validator.text or definition.type


def _value(definition: SettingDefinition, entry: Entry | None) -> str:
    if entry is not None and entry.value is not None:
        return _code(entry.value)
    if definition.default is not None:
        return f'{_code(definition.default)} <span class="dim">default</span>'
    missing = "not set, but required" if definition.required else "not set"
    return f'<span class="dim">{missing}</span>'


def _origin(entry: Entry | None) -> str:
    if entry is None:
        return ""
    when = shown_time(entry.timestamp, digits=0)
    return f'{escape(entry.who)}<br><span class="dim">{when}</span>'


# --- one setting ----------------------------------------------------------------------------------


def state(store: Store, name: str, history: Sequence[Change]) -> str:
    """Shows the values and the history of one setting."""
    definition = store.definition(name)
    name = definition.name
    entries = store.get_all(name)
    current = entries[-1] if entries else None
    held = current.value if current else definition.default
    parts = [
        f'<div id="state" data-value="{escape(held or "")}">\n',
        f"<p>Value: {_value(definition, current)}</p>\n",
        '<h2>Values by priority</h2>\n<table class="one">\n<thead><tr><th scope="col">Priority</th>'
        '<th scope="col">Value</th><th scope="col">Set by, when</th></tr></thead>\n<tbody>\n',
    ]
    for entry in reversed(entries):
        holds = " (holds)" if entry is current else ""
        parts.append(
            f"<tr><td>{entry.priority}{holds}</td><td>{_code(entry.value or '')}</td>"
            f"<td>{_origin(entry)}</td></tr>\n"
        )
    if definition.default is not None:
        parts.append(
            f"<tr><td>default</td><td>{_code(definition.default)}</td>"
            "<td>the definition</td></tr>\n"
        )
    parts.append("</tbody>\n</table>\n<h2>History</h2>\n<ol>\n")
    for change in history:
        entry = change.entry
        what = "deleted" if entry.value is None else _code(entry.value)
        parts.append(
            f"<li>{shown_time(entry.timestamp)}, priority {entry.priority}: {what}"
            f' <span class="dim">{escape(entry.who)}</span></li>\n'
        )
    parts.append("</ol>\n</div>\n")
    return "".join(parts)


def setting_head(definition: SettingDefinition) -> str:
    """Says what a setting is for."""
    default = "none" if definition.default is None else _code(definition.default)
    required = ", required" if definition.required else ""
    return (
        f"<h2>{escape(definition.name)}</h2>\n<p>{escape(definition.help)}</p>\n"
        f'<p class="dim">Type {_code(kind_of(definition))}{required}. Default: {default}.</p>\n'
    )


def edit_form(
    definition: SettingDefinition,
    session: Session,
    value: str,
    priority: int = ADMINISTRATOR,
) -> str:
    """Makes the form with which a value is set or deleted."""
    return (
        f'<form class="edit" method="post" action="set">\n{_mark(session)}'
        f'<input type="hidden" name="name" value="{escape(definition.name)}">\n'
        f"<label>Value {_field(definition, value)}</label>\n"
        f'<label>Priority, 0 to {MAX_PRIORITY} <input name="priority" type="number" min="0"'
        f' max="{MAX_PRIORITY}" required value="{priority}"></label>\n'
        '<div><button name="do" value="set">Set</button>'
        ' <button name="do" value="delete" formnovalidate>'
        "Delete the value of this priority</button></div>\n</form>\n"
    )


def _field(definition: SettingDefinition, value: str) -> str:
    choices = definition.validator.choices
    if choices:
        shown = list(dict.fromkeys((*choices, value) if value else choices))
        options = "".join(
            f"<option{' selected' if one == value else ''}>{escape(one)}</option>" for one in shown
        )
        return f'<select id="value" name="value">{options}</select>'
    if "\n" in value or "\r" in value or len(value) > 80:
        # HTML drops the first newline behind the tag.
        return f'<textarea id="value" name="value" rows="6">\n{escape(value)}</textarea>'
    return f'<input id="value" name="value" autocomplete="off" value="{escape(value)}">'
