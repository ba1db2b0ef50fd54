"""Fetch images that clients name by address, from public hosts only.

    name --resolve--> addresses, all public? --connect to the first of these--> response --redirect--> once more

Decisions:
- The connection goes to the address that was checked, so a name cannot change its address in between.
- Every redirect is checked as the first address is. There are no proxies, no credentials, and no ports but 80 and 443.
- Time and size are limited for the whole transfer.
"""

import socket
import ssl
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import SplitResult, urljoin, urlsplit

from showo_turbo.serving.http.error_bodies import ApiError, invalid

MAX_REDIRECTS = 3
SECONDS = 20.0
_PORTS = {"http": 80, "https": 443}
_CHUNK = 1 << 16


def fetch_image(url: str, max_bytes: int, seconds: float = SECONDS) -> bytes:
    """Return the content of an address.

    Raises:
        ApiError: if the address is not public, or the content cannot be fetched or is too large.
    """
    deadline = time.monotonic() + seconds
    for _ in range(MAX_REDIRECTS + 1):
        parts = _checked(url)
        address = public_address(str(parts.hostname), _PORTS[parts.scheme])
        connection = _PinnedConnection(parts, address, deadline)
        try:
            with connection.request_once(parts) as response:
                if response.status in (301, 302, 303, 307, 308) and (target := response.getheader("Location")):
                    url = urljoin(url, target)
                    continue
                if response.status != 200:
                    raise invalid("image_url", f"image_url could not be fetched: the host answered {response.status}")
                return _read(response, max_bytes, deadline)
        except (OSError, HTTPException, ValueError) as error:
            reason = type(error).__name__
            raise invalid("image_url", f"image_url could not be fetched ({reason}): send the image itself") from None
        finally:
            connection.close()
    raise invalid("image_url", f"image_url redirects more than {MAX_REDIRECTS} times: send the image itself")


def public_address(host: str, port: int) -> str:
    """Return an address of a host, all of whose addresses are public.

    Raises:
        ApiError: if it has none, or one that is private, loopback, link-local, reserved or the like.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise invalid("image_url", "image_url names a host that is not found: send the image itself") from None
    addresses = [str(one[4][0]) for one in found]
    if not addresses or not all(is_public(address) for address in addresses):
        raise invalid("image_url", "image_url names a host that is not public: send the image itself")
    return addresses[0]


def is_public(text: str) -> bool:
    """Return whether an address belongs to the public Internet, also one that is written inside of another."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        inner: list[IPv4Address] = [one for one in (address.ipv4_mapped, address.sixtofour) if one is not None]
        inner += address.teredo or ()
        if not all(is_public(str(one)) for one in inner):
            return False
        if address.ipv4_mapped is not None:
            return True
        if address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved and not address.is_unspecified


class _PinnedConnection(HTTPConnection):
    """Connect to an address that has been checked, under the name of its host."""

    def __init__(self, parts: SplitResult, address: str, deadline: float) -> None:
        super().__init__(str(parts.hostname), _PORTS[parts.scheme], timeout=_left(deadline))
        self.address, self.is_secure = address, parts.scheme == "https"

    def connect(self) -> None:
        """Open the connection; certificates are checked against the host's name."""
        self.sock = socket.create_connection((self.address, self.port), self.timeout)
        if self.is_secure:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)

    def request_once(self, parts: SplitResult) -> HTTPResponse:
        """Send a request and return the response."""
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.request("GET", target, headers={"Accept": "image/*", "Connection": "close", "User-Agent": "showo-turbo"})
        return self.getresponse()


def _checked(url: str) -> SplitResult:
    """Return the parts of an address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise invalid("image_url", "image_url is no valid address") from None
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise invalid("image_url", "image_url is no plain http or https address: send the image itself")
    if port not in (None, _PORTS[parts.scheme]):
        raise invalid("image_url", "image_url names a port: only 80 of http and 443 of https are used")
    return parts


def _read(response: HTTPResponse, max_bytes: int, deadline: float) -> bytes:
    """Return the body of a response."""
    content = bytearray()
    while chunk := response.read1(_CHUNK):
        content += chunk
        if len(content) > max_bytes:
            raise ApiError(413, f"image_url is too large: at most {max_bytes >> 20} MiB", "too_large", "image_url")
        _left(deadline)
    return bytes(content)


def _left(deadline: float) -> float:
    """Return the seconds that are left.

    Raises:
        TimeoutError: if there are none.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
