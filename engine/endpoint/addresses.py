"""Who asks, as far as the connection and the proxies in front of this server say it."""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import Any

_FORWARDED = "x-forwarded-for"


def on_space() -> bool:
    """Whether this is a Hugging Face Space, which stands behind a proxy."""
    return bool(os.environ.get("SPACE_ID"))


def client_address(client: Any, headers: Any, proxies: int) -> str | None:
    """The address of who asks; None where it is not known, so that nobody is taken for somebody else.

    Args:
        client: What the connection says: an object with `host`, or None.
        headers: Of the request, by name.
        proxies: How many proxies in front of the page append to X-Forwarded-For. What stands there before their
            entries is the client's own word. 0 leaves that header alone; then an address of this machine is nobody's,
            for a proxy here looks the same, and so is every address on a Space.
    """
    if proxies:
        entries = [entry.strip() for entry in _forwarded(headers).split(",")]
        return _address(entries[-proxies]) if len(entries) >= proxies else None
    address = None if client is None or on_space() else _address(client.host)
    return None if address is None or ip_address(address).is_loopback else address


def _forwarded(headers: Any) -> str:
    """The header with all its lines: a proxy may add one of its own below the client's, and only the last counts."""
    lines = headers.getlist(_FORWARDED) if hasattr(headers, "getlist") else [headers.get(_FORWARDED) or ""]
    return ",".join(lines)


def _address(text: str) -> str | None:
    """An IP address in its one spelling; of IPv6 the network, of which one client has all addresses."""
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    if address.version == 4:
        return str(address)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped) if mapped else str(ip_address(int(address) >> 64 << 64)) if not address.is_loopback else "::1"
