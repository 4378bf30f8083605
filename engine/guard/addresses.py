"""Who asks, as far as the connection and the proxies in front of this server say it."""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

_FORWARDED = "x-forwarded-for"


def on_space() -> bool:
    """Whether this is a Hugging Face Space, which stands behind the platform's proxies."""
    return bool(os.environ.get("SPACE_ID"))


def address_rule(proxies: int | None) -> str:
    """Where client addresses come from, as the log says it at the start."""
    if proxies:
        return f"client addresses: entry {proxies} from the end of X-Forwarded-For (CITER_SERVER__PROXIES)"
    if proxies is None and on_space():
        return "client addresses: the last public one in X-Forwarded-For, as on a Space (CITER_SERVER__PROXIES unset)"
    return "client addresses: the connection's; X-Forwarded-… headers are dropped"


def client_address(client: Any, headers: Any, proxies: int | None) -> str | None:
    """The address of who asks; None where it is not known, so that nobody is taken for somebody else.

    Args:
        client: What the connection says: an object with `host`, or None.
        headers: Of the request, by name.
        proxies: How many proxies in front of the server append to X-Forwarded-For. What stands there before their
            entries is the client's own word. With 0 or None the header is not read, and an address of this machine
            is nobody's, since a proxy here has the same. But None on a Space is the platform's rule: its proxies have
            private addresses (10.…), so the last public address in the header is the client's.
    """
    peer = None if client is None else _parsed(client.host)
    if proxies:
        entries = _forwarded(headers)
        return _shared(_parsed(entries[-proxies])) if len(entries) >= proxies else None
    if proxies is None and on_space():
        known = [address for entry in _forwarded(headers) if (address := _parsed(entry)) and address.is_global]
        return _shared(known[-1]) if known and peer is not None and not peer.is_global else None
    return None if peer is None or peer.is_loopback or on_space() else _shared(peer)


def _forwarded(headers: Any) -> list[str]:
    """The header's entries in all its lines: a proxy may add a line of its own below the client's."""
    lines = headers.getlist(_FORWARDED) if hasattr(headers, "getlist") else [headers.get(_FORWARDED) or ""]
    return [entry.strip() for entry in ",".join(lines).split(",")]


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _shared(address: IPv4Address | IPv6Address | None) -> str | None:
    """The address in its one spelling; of IPv6 the network, since one client has all addresses of a network."""
    if address is None or address.version == 4 or address.is_loopback:
        return None if address is None else str(address)
    return str(ip_address(int(address) >> 64 << 64))
