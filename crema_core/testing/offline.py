"""A while without network: connections fail at once and are remembered."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

LOCAL = getattr(socket, "AF_UNIX", None)


@contextmanager
def offline() -> Iterator[list[str]]:
    """Refuse every connection of this process and yield the list of those that were tried.

    Sockets inside the machine (AF_UNIX) stay, because worker processes use them.
    """
    tried: list[str] = []
    connect = socket.socket.connect

    def refuse(address: object) -> OSError:
        tried.append(str(address))
        return OSError(f"the network is blocked while a sense is checked; it asked for {address}")

    def connect_local(own: socket.socket, address: Any) -> None:
        if own.family == LOCAL:
            return connect(own, address)
        raise refuse(address)

    def look_up(host: object, *arguments: object, **keywords: object) -> object:
        raise refuse(host)

    with (
        mock.patch.object(socket.socket, "connect", connect_local),
        mock.patch.object(socket.socket, "connect_ex", connect_local),
        mock.patch.object(socket, "getaddrinfo", look_up),
    ):
        yield tried
