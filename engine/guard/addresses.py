"""Finds a client's address from the connection and from the headers of proxies in front of this server."""

from __future__ import annotations

import logging
import os
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

ADDRESS = "citer.address"
"""The key under which the guard puts the client's address into a request's scope."""

_ENTRIES = 20  # of X-Forwarded-For that are read, from its end: a client may send thousands

logger = logging.getLogger(__name__)


def on_space() -> bool:
    """Whether this is a Hugging Face Space, which stands behind the platform's proxies."""
    return bool(os.environ.get("SPACE_ID"))


def address_of(request: Any) -> str | None:
    """The address that the guard found for a request, or for gradio's wrapper of one; None where it is not known."""
    return getattr(getattr(request, "request", request), "scope", {}).get(ADDRESS)


class Addresses:
    """Reads client addresses. The log says where they come from, and once if requests behind a proxy have none.

    Args:
        proxies: How many proxies in front of the server append to X-Forwarded-For. What stands there before their
            entries is the client's own word. With 0 or None the header is not read, and an address of this machine
            counts as unknown, since a proxy here has the same. None on a Space is the platform's rule: its proxies
            connect from private addresses, and the last public address in the header is the client's.
    """

    def __init__(self, proxies: int | None) -> None:
        self._proxies, self._by_space, self._told = proxies, proxies is None and on_space(), False
        self.proxied = bool(proxies) or self._by_space  # whether X-Forwarded-… headers are believed
        of_header = "last public one" if self._by_space else f"entry {proxies} from the end"
        source = f"the {of_header} in X-Forwarded-For" if self.proxied else "the connection's; X-Forwarded-… is dropped"
        self.rule = f"client addresses: {source}"  # for the log at the start

    def of(self, scope: Scope) -> str | None:
        """The address of a request's client, for IPv6 its /64 network. None where it is not known."""
        peer = _parsed(scope["client"][0]) if scope.get("client") else None
        # A proxy may add a line of its own below the client's.
        line = ",".join(Headers(scope=scope).getlist("x-forwarded-for"))
        entries = [_parsed(entry) for entry in line.rsplit(",", _ENTRIES)[-_ENTRIES:] if entry.strip()]
        found = self._chosen(peer, entries)
        if entries and not self._told and (found is None or not self.proxied):
            self._told = True
            said = "a request has %d entries in X-Forwarded-For, and none names its client (%s): "
            logger.warning(said + "is CITER_SERVER__PROXIES right?", len(entries), self.rule)
        return None if found is None else _spelled(found)

    def _chosen(self, peer: _Address | None, entries: list[_Address | None]) -> _Address | None:
        if self._by_space:
            public = [entry for entry in entries if entry is not None and entry.is_global]
            return public[-1] if public and peer is not None and not peer.is_global else None
        if self._proxies:
            return entries[-self._proxies] if len(entries) >= self._proxies else None
        return None if peer is None or peer.is_loopback or on_space() else peer


_Address = IPv4Address | IPv6Address


def _parsed(text: str) -> _Address | None:
    try:
        address = ip_address(text.strip(" []"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _spelled(address: _Address) -> str:
    """The usual spelling of an address. For IPv6 it is that of the /64 network, all of which one client may use."""
    if address.version == 4 or address.is_loopback:
        return str(address)
    return str(ip_address(int(address) >> 64 << 64))
