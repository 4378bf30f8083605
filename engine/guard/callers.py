"""Who asks: the client's address, the name under which it asks this server, the site whose page asks, and the key.

A foreign site can point a name of its own at this machine and have a visitor's browser ask here. So requests under
other names than the allowed ones are refused, and those from other sites' pages.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
import socket
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_address

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import Scope

from engine.guard.refusals import Refusal

_ENTRIES = 20  # of X-Forwarded-For that are read, from its end: a client may send thousands
_FORWARDED = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"forwarded")
_NEVER = (b"x-gradio-server",)  # gradio would take it for its own address
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:/@\[\]\s]+))(?::\d+)?")
_SPACE_HOSTS = ("*.hf.space",)
_SPACE_ORIGINS = ("huggingface.co",)  # shows the Space in a frame

logger = logging.getLogger(__name__)


def on_space() -> bool:
    """Whether this is a Hugging Face Space, which stands behind the platform's proxies."""
    return bool(os.environ.get("SPACE_ID"))


def check_key(headers: Headers, key: SecretStr | None) -> None:
    """Raises Refusal for a program's request without the server's key, where it has one."""
    if key is None:
        return
    kind, _, given = headers.get("authorization", "").partition(" ")
    wanted = key.get_secret_value().encode()
    if kind.lower() != "bearer" or not hmac.compare_digest(given.strip(" \t").encode("latin-1"), wanted):
        raise Refusal(401, "This server wants its key: send Authorization: Bearer and the key.")


class Callers:
    """Tells who asks, and refuses other sites.

    The log says where addresses come from, and once if requests behind a proxy have none.

    Args:
        hosts: Host names that the server answers to, beside addresses and this machine's own: `server.hosts`.
        host: Where it listens, if that is a name.
        proxies: How many proxies in front of the server append to X-Forwarded-For. What stands there before their
            entries is the client's own word. With 0 or None the header is not read, and an address of this machine
            counts as unknown, since a proxy here has the same. None on a Space is the platform's rule: its proxies
            connect from private addresses, and the last public address in the header is the client's.
    """

    def __init__(self, hosts: str, host: str | None, proxies: int | None) -> None:
        self._origins = tuple(name.strip().lower() for name in hosts.split(",") if name.strip())
        own = socket.gethostname().lower()
        named = (host, os.environ.get("SPACE_HOST"))
        self._hosts = ("localhost", own, f"{own}.local", *self._origins, *(name.lower() for name in named if name))
        if on_space():
            self._hosts, self._origins = (*self._hosts, *_SPACE_HOSTS), (*self._origins, *_SPACE_ORIGINS)
        self._proxies, self._by_space, self._told = proxies, proxies is None and on_space(), False
        self._proxied = bool(proxies) or self._by_space  # whether X-Forwarded-… headers are believed
        header = f"the {'last public one' if self._by_space else f'entry {proxies} from the end'} in X-Forwarded-For"
        source = header if self._proxied else "the connection's; X-Forwarded-… is dropped"
        self.rule = f"client addresses: {source}"  # for the log at the start

    def check(self, headers: Headers) -> None:
        """Raises Refusal for a request under a foreign name, or from another site's page."""
        hosts, origin = headers.getlist("host"), headers.get("origin")
        if len(hosts) != 1 or not self._known(hosts[0]):
            said = "This page is not served under that name. Its host can allow the name with CITER_SERVER__HOSTS."
            raise Refusal(403, said)
        asking = "" if origin is None else origin.partition("://")[2]
        if origin is not None and _bare(asking) != _bare(hosts[0]) and not _matches(_name(asking), self._origins):
            said = "Another site's page may not ask this one. Its host can allow the site with CITER_SERVER__HOSTS."
            raise Refusal(403, said)

    def believed(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The headers that are passed on: forwarding ones only behind proxies, and no foreign X-Forwarded-Host."""
        dropped = _NEVER if self._proxied else (*_NEVER, *_FORWARDED)
        if not all(self._known(value.decode("latin-1")) for name, value in headers if name == b"x-forwarded-host"):
            dropped = (*dropped, b"x-forwarded-host")
        return [(name, value) for name, value in headers if name not in dropped]

    def address(self, scope: Scope) -> str | None:
        """The address of a request's client, for IPv6 its /64 network. None where it is not known."""
        peer = _parsed(scope["client"][0]) if scope.get("client") else None
        # A proxy may add a line of its own below the client's.
        line = ",".join(Headers(scope=scope).getlist("x-forwarded-for"))
        entries = [_parsed(entry) for entry in line.rsplit(",", _ENTRIES)[-_ENTRIES:] if entry.strip()]
        found = self._chosen(peer, entries)
        if entries and not self._told and (found is None or not self._proxied):
            self._told = True
            said = "a request has %d entries in X-Forwarded-For, and none names its client (%s): "
            logger.warning(said + "is CITER_SERVER__PROXIES right?", len(entries), self.rule)
        if found is None or found.version == 4 or found.is_loopback:
            return found and str(found)
        return str(ip_address(int(found) >> 64 << 64))  # one client may use all of its network

    def _chosen(self, peer: _Address | None, entries: list[_Address | None]) -> _Address | None:
        if self._by_space:
            public = [entry for entry in entries if entry is not None and entry.is_global]
            return public[-1] if public and peer is not None and not peer.is_global else None
        if self._proxies:
            return entries[-self._proxies] if len(entries) >= self._proxies else None
        return None if peer is None or peer.is_loopback or on_space() else peer

    def _known(self, host: str) -> bool:
        """Whether a Host header, or what a proxy says of one, is an address or an allowed name."""
        name = _name(host)  # no foreign site can point an address at this machine
        return _parsed(name) is not None or _matches(name, self._hosts)


_Address = IPv4Address | IPv6Address


def _parsed(text: str) -> _Address | None:
    try:
        address = ip_address(text.strip(" []"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _name(host: str) -> str:
    """The name in a Host header; empty where it is none."""
    found = _HOST.fullmatch(host.lower())
    return "" if found is None else found[1] or found[2]


def _bare(host: str) -> str:
    return host.lower().removesuffix(":443").removesuffix(":80")


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return bool(name) and any(fnmatchcase(name, pattern) for pattern in patterns)
