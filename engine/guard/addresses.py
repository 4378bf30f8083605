"""The client's address, as far as the connection and the proxies in front of this server tell it."""

from __future__ import annotations

import logging
import os
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

ADDRESS = "citer.address"
"""Where the guard leaves the client's address in a request's scope, for all that answers behind it."""

logger = logging.getLogger(__name__)


def on_space() -> bool:
    """Whether this is a Hugging Face Space, which stands behind the platform's proxies."""
    return bool(os.environ.get("SPACE_ID"))


def address_of(request: Any) -> str | None:
    """The address that the guard found for a request, or for gradio's wrapper of one; None where it is not known."""
    return getattr(getattr(request, "request", request), "scope", {}).get(ADDRESS)


class Addresses:
    """Reads client addresses, and says in the log where they come from and whether requests have one.

    Args:
        proxies: How many proxies in front of the server append to X-Forwarded-For. What stands there before their
            entries is the client's own word. With 0 or None the header is not read, and an address of this machine
            counts as unknown, since a proxy here has the same. None on a Space is the platform's rule: its proxies
            connect from private addresses, and the last public address in the header is the client's.
    """

    def __init__(self, proxies: int | None) -> None:
        self._proxies = proxies
        self._by_space = proxies is None and on_space()
        self._told: set[bool] = set()

    @property
    def proxied(self) -> bool:
        """Whether what proxies say in headers is believed."""
        return bool(self._proxies) or self._by_space

    @property
    def rule(self) -> str:
        """Where addresses come from, for the log at the start."""
        if self._by_space:
            return "client addresses: the last public one in X-Forwarded-For (this is a Space)"
        if self._proxies:
            return f"client addresses: entry {self._proxies} from the end of X-Forwarded-For (CITER_SERVER__PROXIES)"
        return "client addresses: the connection's; X-Forwarded-… headers are dropped"

    def of(self, scope: Scope) -> str | None:
        """The address of a request's client, of IPv6 its network; None where it is not known."""
        peer = _parsed(scope["client"][0]) if scope.get("client") else None
        # A proxy may add a line of its own below the client's.
        lines = Headers(scope=scope).getlist("x-forwarded-for")
        entries = [_parsed(entry) for entry in ",".join(lines).split(",") if entry.strip()]
        found = self._chosen(peer, entries)
        known = found is not None
        if known not in self._told and (self.proxied or lines):
            self._told.add(known)
            logger.warning(self._finding(known, entries))
        return None if found is None else _spelled(found)

    def _chosen(self, peer: _Address | None, entries: list[_Address | None]) -> _Address | None:
        if self._by_space:
            public = [entry for entry in entries if entry is not None and entry.is_global]
            return public[-1] if public and peer is not None and not peer.is_global else None
        if self._proxies:
            return entries[-self._proxies] if len(entries) >= self._proxies else None
        return None if peer is None or peer.is_loopback or on_space() else peer

    def _finding(self, known: bool, entries: list[_Address | None]) -> str:
        """What the first request of its kind has shown; no address is logged."""
        kinds = ", ".join("no address" if e is None else "public" if e.is_global else "private" for e in entries[:8])
        seen = f"a request's X-Forwarded-For has {len(entries)} entries ({kinds or 'none'})"
        if not self.proxied:
            return f"{seen}, and CITER_SERVER__PROXIES names no proxy: all who come through one share its limits"
        if known:
            return f"{seen}: its client has an address, and limits of its own"
        return f"{seen}: its client has no address, and shares one limit with all such: is CITER_SERVER__PROXIES right?"


_Address = IPv4Address | IPv6Address


def _parsed(text: str) -> _Address | None:
    try:
        address = ip_address(text.strip(" []"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _spelled(address: _Address) -> str:
    """The address in its one spelling; of IPv6 the network, since one client has all addresses of a network."""
    if address.version == 4 or address.is_loopback:
        return str(address)
    return str(ip_address(int(address) >> 64 << 64))
