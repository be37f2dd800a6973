"""The commands of fluid-settings-cli, each over one client of settings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

import gevent

from ..communicatord.client_options import communicator_address, communicator_tls
from ..errors import (
    ConnectionLostError,
    SettingError,
    SettingNotSetError,
    TransmissionError,
    UnknownCommandError,
)
from ..fluidsettings.client import Client, own_service_name
from ..fluidsettings.described import Described, entry_fields
from ..fluidsettings.names import ADMINISTRATOR
from ..fluidsettings.values import read_lines
from ..fluidsettings.watch import SettingChange
from ..option_groups import tls_from_options
from . import settings_output as output

NAME: Final = "fluid-settings-cli"
_SERVICE: Final = "fluid_settings_cli"
_FOREVER: Final = 10.0 * 365 * 86400
"""How long a watch waits for a daemon that went away, in seconds."""
_PAUSE: Final = 0.5
"""Between its questions to communicatord whether the daemon is back, in seconds."""


class Commands:
    """The commands, each over one client."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.json: bool = options.json

    def connect(self, *, wait: float = 0.0) -> Client:
        """Connects to the daemon, or to communicatord; ``wait`` seconds until it is there."""
        options = self.options
        limit = wait or options.timeout
        if options.communicator_listen:
            from ..communicatord.script import CommunicatorClient

            address = communicator_address(options)
            assert address is not None
            link = CommunicatorClient(
                own_service_name(_SERVICE),
                address=address,
                connect_timeout=limit,
                commands=("FLUID_SETTINGS_VALUE_UPDATED", "FLUID_SETTINGS_READY", "STATUS"),
                tls=communicator_tls(options, address),
            )
            return Client(link=link, timeout=options.timeout)
        return Client(
            options.address,
            name=own_service_name(_SERVICE),
            timeout=options.timeout,
            connect_timeout=limit,
            wait=bool(wait),
            tls=tls_from_options(options, server_side=False) if options.address.is_tls else None,
        )

    def get(self, client: Client, name: str, *, pair: bool = False, default: bool = False) -> None:
        """get, --get and --get-default."""
        if default:
            value = client.get_default(name)
            if value is None:
                raise SettingNotSetError(f"{name}: this setting has no default")
        else:
            value = client.get(name, priority=self.options.priority)
        if self.json:
            output.print_json({"name": name, "value": value})
        elif pair:
            output.print_pair(name, value)
        else:
            output.print_value(value)

    def set(self, client: Client, name: str, value: str) -> None:
        """set; what it has done is said to those who ask."""
        reason = client.set(name, value, priority=self._own_priority())
        if self.json:
            output.print_json({"name": name, "reason": reason})
        elif self.options.verbose:
            print(f"{name}: {reason}")

    def delete(self, client: Client, name: str) -> int:
        """delete; 1 when there was nothing."""
        deleted = client.delete(name, priority=self._own_priority())
        if self.json:
            output.print_json({"name": name, "deleted": deleted})
        elif not deleted:
            print(f"{NAME}: {name}: nothing was deleted", file=sys.stderr)
        return 0 if deleted else 1

    def _own_priority(self) -> int:
        priority: int | None = self.options.priority
        return ADMINISTRATOR if priority is None else priority

    def list(self, client: Client, namespace: str = "") -> int:
        """list; 1 when there is nothing of that name."""
        found = self._described(client, namespace)
        if self.json:
            for setting in found:
                output.print_json(output.setting_fields(setting))
        else:
            output.print_settings(found, verbose=self.options.verbose)
        return self._check_found(found, namespace)

    def define(self, client: Client, namespace: str = "") -> int:
        """options; 1 when there is nothing of that name."""
        found = client.list(namespace)
        if self.json:
            for setting in found:
                output.print_json(output.setting_fields(setting))
        else:
            output.print_definitions(found)
        return self._check_found(found, namespace)

    def _check_found(self, found: Sequence[object], namespace: str) -> int:
        if not found and namespace:
            raise SettingError(f"{namespace[:64]!a}: there are no settings of this name")
        return 0

    def _described(self, client: Client, namespace: str) -> Sequence[Described]:
        try:
            return client.list(namespace)
        except UnknownCommandError:  # the C++ daemon
            names = [one for one in client.names() if one.startswith(namespace)]
            return [Described(name, default=client.get(name, None)) for name in names]

    def names(self, client: Client, *, service: str = "", services: bool = False) -> None:
        """--list-all, --list-options and --list-services."""
        names = client.names()
        if services:
            names = list(dict.fromkeys(name.partition("::")[0] for name in names))
        elif service:
            prefix = f"{service.replace('_', '-')}::"
            names = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        for name in names:
            if self.json:
                output.print_json(name)
            else:
                print(name)

    def history(self, client: Client, name: str) -> None:
        """history."""
        entries = client.history(name, limit=self.options.limit)
        if self.json:
            for entry in entries:
                output.print_json({"name": entry.name, **entry_fields(entry)})
        else:
            output.print_history(entries)

    def export(self, client: Client, path: str = "-") -> None:
        """export."""
        output.write_lines(path, client.export())

    def take(self, client: Client, path: str) -> int:
        """import: the whole file is read before the first value is set; 1 when one is refused."""
        entries = list(read_lines(output.read_file(path), path))
        refused: list[str] = []
        changed = 0
        for entry in entries:
            assert entry.value is not None
            try:
                reason = client.set(
                    entry.name, entry.value, priority=entry.priority, timestamp=entry.timestamp
                )
            except SettingError as error:
                refused.append(str(error))
            else:
                changed += reason not in ("unchanged", "newer")
        if self.json:
            counts = {"read": len(entries), "changed": changed, "refused": len(refused)}
            output.print_json(counts)
        elif not refused:
            print(f"{len(entries)} values read, {changed} changed")
        if refused:
            raise SettingError(
                f"{len(refused)} of {len(entries)} values were refused, first: {refused[0]}"
            )
        return 0

    def watch(self, names: Sequence[str], *, if_up: bool) -> None:
        """watch: values, then changes; after a loss it connects anew, and tells what is new."""
        known: dict[str, str | None] = {}
        client = self.connect()
        told = False  # whether the loss was
        while True:
            try:
                with client, client.watch(*names) as watch:
                    told = False
                    for change in watch:
                        self._show(change, known)
            except (ConnectionLostError, TransmissionError) as error:
                if if_up or not known:
                    raise
                if not told:
                    said = f"{NAME}: {error}; waiting for it".replace("\n", " ")
                    print(said, file=sys.stderr, flush=True)
                told = True
            if self.options.communicator_listen:
                gevent.sleep(_PAUSE)  # communicatord may be there, and the daemon not
            client = self.connect(wait=_FOREVER)

    def _show(self, change: SettingChange, known: dict[str, str | None]) -> None:
        """Prints a value, if it is not the one that was printed last."""
        if change.name in known and known[change.name] == change.value:
            return
        known[change.name] = change.value
        if self.json:
            output.print_json(output.change_fields(change))
        else:
            output.print_pair(change.name, change.value)
