"""What the code of a service declares, and what its configuration file makes of that."""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from .allow import Allow, parse_allow
from .arguments import check_callable
from .binding import describe
from .durations import format_duration, parse_duration
from .errors import OptionError, SigningKeyError, UsageError
from .limits import DRAIN_TIMEOUT
from .option_secrets import read_secret
from .option_values import nearest
from .service_parts import Step
from .service_places import Place, parse_link, parse_listener
from .signing import SigningKeys

if TYPE_CHECKING:
    from .options import OptionParser

ON_RESTART: Final = ("auto", "exit", "exec")
OWN_OPTIONS: Final = frozenset(
    {
        "allow",
        "drain_timeout",
        "fluid_settings",
        "fluid_settings_timeout",
        "links",
        "listen",
        "listeners",
        "metrics",
        "on_restart",
        "path_to_message_definitions",
        "pid_file",
        "settings",
        "settings_copy",
        "timers",
    }
)
"""The names of the options that a service sees to by itself, in the result of the parser."""

_OFF: Final = ("off", "never")
_SHORTEST: Final = 0.001  # seconds


@dataclass(slots=True)
class DeclaredLink:
    """A link that the code asks for: a name or a shell pattern of names, and functions of it."""

    pattern: str
    optional: bool = False
    functions: list[Callable[[Any], Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        _check_name("link", self.pattern)


_HOOKS: Final = {
    "start": ("options",),
    "stop": ("quitting",),
    "end": (),
    "reload": ("options", "changed"),
    "ready": ("message",),
}
"""What the functions for the events of a service are called with."""


def _check_name(kind: str, name: object) -> None:
    if not isinstance(name, str):  # else a decorator without its name would lose the function
        raise UsageError(
            f"{kind}() was given {describe(name) if callable(name) else name!r} in place of a"
            f' name: one is written as @service.{kind}("NAME")'
        )


@dataclass(slots=True)
class Declared:
    """What the decorators of a service have collected."""

    listeners: dict[str, Place] = field(default_factory=dict)
    links: list[DeclaredLink] = field(default_factory=list)
    timers: dict[str, tuple[Callable[[], Any], float | None]] = field(default_factory=dict)
    hooks: dict[str, list[Callable[..., Any]]] = field(default_factory=dict)
    communicatord: str = ""  # the name to register there; empty for none
    listeners_of: Callable[[argparse.Namespace], Mapping[str, Place]] | None = None
    preparing: list[Callable[[argparse.Namespace, argparse.Namespace], Step]] = field(
        default_factory=list
    )  # of a reload: called with the former options and the new ones

    # --- from the code ----------------------------------------------------------------------------

    def add_listener(self, address: str, name: str, settings: Mapping[str, Any]) -> None:
        """Adds a listener for a file that has none."""
        number = len(self.listeners) + 1
        name = name or ("listen" if number == 1 else f"listen-{number}")
        if name in self.listeners:
            raise UsageError(f"listen(): a listener {name!r} is there already")
        place = parse_listener(name, address)
        self.listeners[name] = place.at(settings)

    def read_listener(self, name: str, text: str) -> Place:
        """Reads where to listen; a host alone has the port of the listener that the code has.

        Raises:
            OptionError: The text is none, or it lets in others without being told so.
        """
        places = self.listeners.values()
        ports = {place.address.port for place in places if place.address.is_inet} - {0}
        return _not_far(parse_listener(name, text, ports.pop() if len(ports) == 1 else None))

    def interval_of(self, name: str, interval: str | float | None) -> float | None:
        """Reads how often a timer that the code declares calls, in seconds.

        Raises:
            DurationError: The interval is none.
            UsageError: The name is none.
        """
        _check_name("timer", name)
        return None if interval is None else parse_duration(interval)

    def add_timer(self, name: str, function: Callable[[], Any], interval: float | None) -> None:
        """Adds the function of a timer."""
        if name in self.timers:
            raise UsageError(f"timer({name!r}): there is a function for it already")
        check_callable(function, f"timer({name!r})", ())
        self.timers[name] = (function, interval)

    def add_hook(self, kind: str, function: Callable[..., Any]) -> None:
        """Adds a function for one of the events of a service; refuses what cannot be called so."""
        check_callable(function, f"on_{kind}", _HOOKS[kind])
        self.hooks.setdefault(kind, []).append(function)

    def functions_of(self, link: str) -> list[Callable[[Any], Any]]:
        """Gives all functions for the link of this name."""
        return [
            function
            for one in self.links
            if fnmatch.fnmatchcase(link, one.pattern)
            for function in one.functions
        ]

    # --- what the options make of it --------------------------------------------------------------

    def choose_listeners(self, options: argparse.Namespace, inherited: bool) -> dict[str, Place]:
        """Gives the listeners: of ``--listen``, else of the file, else of the code.

        Those that a program makes of its own options stand beside them.
        """
        own = {} if self.listeners_of is None else dict(self.listeners_of(options))
        if options.listen:
            names = [
                "listen",
                *(f"listen-{number}" for number in range(2, 1 + len(options.listen))),
            ]
            return {**own, **dict(zip(names, options.listen, strict=True))}
        if options.listeners or inherited:
            return {**own, **options.listeners}
        return {**own, **self.listeners}

    def read_link(self, name: str, text: str) -> Place:
        """Reads a line of ``[links]``.

        Raises:
            OptionError: No such link is asked for, or the text is none.
        """
        asked = [one.pattern for one in self.links]
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in asked):
            raise OptionError(f"this service has no such link{nearest(name, asked)}")
        return parse_link(name, text)

    def choose_links(self, options: argparse.Namespace) -> dict[str, Place]:
        """Gives the links of the file.

        Raises:
            OptionError: One that the code asks for has no address.
        """
        links: dict[str, Place] = dict(options.links)
        for one in self.links:
            if not one.optional and not fnmatch.filter(links, one.pattern):
                raise OptionError(
                    f"link {one.pattern!r} has no address: [links] {one.pattern} = ADDRESS was"
                    " expected"
                )
        return links

    def read_timer(self, name: str, text: str) -> float:
        """Reads a line of ``[timers]``: seconds, 0.0 for a timer that is off.

        Raises:
            OptionError: There is no such timer, or the text is no interval.
        """
        if name not in self.timers:
            raise OptionError(f"this service has no such timer{nearest(name, self.timers)}")
        if text.lower() in _OFF:
            return 0.0
        seconds = parse_duration(text)
        if seconds < _SHORTEST:
            least = format_duration(_SHORTEST)
            raise OptionError(f"interval {text!r}: expected {least} or more, or off")
        return seconds

    def choose_timers(self, options: argparse.Namespace) -> dict[str, float]:
        """Gives the intervals of the timers, in seconds; those that are off are not there.

        Raises:
            OptionError: A timer has no interval.
        """
        found = {}
        for name, (_, usual) in self.timers.items():
            interval = options.timers.get(name, usual)
            if interval is None:
                raise OptionError(
                    f"timer {name!r} has no interval: [timers] {name} = DURATION was expected"
                )
            if interval:
                found[name] = interval
        return found


def add_service_options(parser: OptionParser, declared: Declared) -> None:
    """Adds the options and the sections of files that every service has."""
    parser.add(
        "--listen",
        action="append",
        type=lambda text: declared.read_listener("", text),
        to_text=_text_of,
        metavar="ADDRESS",
        help="where to listen, in place of all listeners of the files; may be repeated",
    )
    parser.add_section("listeners", declared.read_listener, help="where to listen, and how")
    parser.add_section("links", declared.read_link, help="where links go, and how")
    parser.add_section("timers", declared.read_timer, help="intervals of timers; off for never")
    parser.add_section("allow", _allowed, help="who may send a command")
    parser.add_duration(
        "--drain-timeout",
        default=DRAIN_TIMEOUT,
        help="how long the end waits for handlers and for what is still to leave",
    )
    parser.add("--pid-file", metavar="FILE", help="a file for the process id")
    parser.add(
        "--on-restart",
        choices=ON_RESTART,
        default="auto",
        help="what RESTART does: end with status 75, or begin anew in the same process"
        " (auto: exit under a service manager)",
    )
    parser.add(
        "--metrics",
        type=_listener,
        to_text=_text_of,
        metavar="ADDRESS",
        help="where to serve the counters to Prometheus, such as unix:/run/NAME/metrics",
    )


def allow_of(options: argparse.Namespace) -> Allow | None:
    """Makes the table of who may send what; ``None`` when there is nothing in it."""
    return Allow(options.allow) if options.allow else None


def changed_options(before: argparse.Namespace, now: argparse.Namespace) -> set[str]:
    """Gives the names of the options that have another value."""
    old, new = vars(before), vars(now)
    names = {name for name in {*old, *new} if not name.startswith("_")}  # others are notes
    return {name for name in names if old.get(name) != new.get(name)}


def add_communicatord(parser: OptionParser, declared: Declared, own: str, name: bool | str) -> None:
    """Adds the options of a service that registers with a communicatord.

    Args:
        own: The service's name.
        name: The name that it registers, or True for the own one.

    Raises:
        UsageError: It is no name for a message.
    """
    from .communicatord.client_options import add_communicator_options
    from .communicatord.places import check_service_name

    wanted = name if isinstance(name, str) else own.replace("-", "_")
    declared.communicatord = check_service_name(wanted)
    add_communicator_options(parser)


def add_service_checks(parser: OptionParser, declared: Declared) -> None:
    """Adds to ``--check-config`` what is known without a start: addresses, names, certificates."""

    def listeners(options: argparse.Namespace) -> Iterator[str]:
        places = declared.choose_listeners(options, False)
        if options.metrics:
            places["metrics"] = options.metrics
        return _problems(places, server_side=True)

    def links(options: argparse.Namespace) -> Iterator[str]:
        return _problems(declared.choose_links(options), server_side=False)

    def timers(options: argparse.Namespace) -> Iterator[str]:
        declared.choose_timers(options)
        return iter(())

    def pid_file(options: argparse.Namespace) -> Iterator[str]:
        from .option_checks import file_problems

        return file_problems(options.pid_file, writes=True) if options.pid_file else iter(())

    for check in (listeners, links, timers, pid_file):
        parser.add_check(check)


def _problems(places: Mapping[str, Place], *, server_side: bool) -> Iterator[str]:
    from .option_checks import address_problems, tls_problems

    for place in places.values():
        yield from address_problems(place.address, listens=server_side)
        if server_side:
            yield from _listener_problems(place)
        options = place.tls_options()
        if options is not None:
            yield from tls_problems(options, server_side=server_side)


def _listener_problems(place: Place) -> Iterator[str]:
    """Tells what a listener would be refused for at the start."""
    address, settings = place.address, place.settings
    code, keys = settings.get("secret_code_file"), settings.get("auth")
    try:
        if code:
            read_secret(code, "secret_code_file")
        if keys:
            SigningKeys.read(keys)
    except (OptionError, SigningKeyError) as error:
        yield f"{address}: {error}"
    if reach := _reach_problem(place):
        yield reach


def _reach_problem(place: Place) -> str:
    """Says what a listener that others can reach needs; empty when it has that."""
    from .option_checks import is_far

    address, settings = place.address, place.settings
    if address.is_datagram:
        needed = ("secret_code_file", "auth", "allow_unauthenticated")
        if not any(settings.get(name) for name in needed) and is_far(address, private=True):
            return (
                f"{address} can be reached by others: secret_code_file=FILE or auth=FILE was"
                " expected, or allow_unauthenticated=yes"
            )
    elif not (address.is_tls or place.tls or settings.get("allow_remote")) and is_far(address):
        return (
            f"{address}: plain text on an address that is neither loopback nor private needs"
            " allow_remote=yes"
        )
    return ""


def _not_far(place: Place) -> Place:
    """Refuses such a listener where it is written; multicast may stay on loopback by a setting."""
    reach = "" if "interface" in place.settings else _reach_problem(place)
    if reach:
        raise OptionError(reach)
    return place


def _listener(text: str) -> Place:
    return _not_far(parse_listener("", text))


def _text_of(place: Place) -> str:
    return place.text


def _allowed(command: str, text: str) -> str:
    parse_allow(command, text)
    return text
