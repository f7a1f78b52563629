"""Who may talk to the server: the browser that was given the token, from the server's own pages.

The token comes once in the address that is printed, then in a cookie that no script reads and no
other site sends. The Host header is checked, so that a foreign name that leads here (DNS
rebinding) gets nothing; what changes something must come from a page of this very server.
"""

import html
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard", "new_token"]

_HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "media-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
_SAFE = ("GET", "HEAD")


def new_token() -> str:
    """256 random bits for an address."""
    return secrets.token_urlsafe(32)


class Guard:
    """Lets requests through to the pages, or answers 403.

    Args:
        app: The pages.
        token: What the address must hold once.
        port: Where the server listens; a part of the cookie's name, for cookies do not know ports.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self.app = app
        self.token = token
        self.cookie = f"mmalign_view_{port}"
        self.hosts = (f"127.0.0.1:{port}", f"localhost:{port}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or have the pages answer, with the headers that keep other sites out."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        given = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        problem = self._problem(headers, scope["method"])
        answer: ASGIApp
        if problem:
            answer = PlainTextResponse(f"403: {problem}\n", 403)
        elif scope["method"] == "GET" and self._is_token(given.get("token", "")):
            answer = self._welcome(scope["path"], given)
        elif not self._is_token(self._cookie_of(headers)):
            answer = PlainTextResponse(
                "403: open the whole address that mmalign view printed, token included\n", 403
            )
        else:
            answer = self.app

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    sent.setdefault(name, value)
            await send(message)

        await answer(scope, receive, send_guarded)

    def _problem(self, headers: Headers, method: str) -> str:
        host = headers.get("host", "")
        if host not in self.hosts:
            return f"the address must begin with http://{self.hosts[0]}/"
        if method not in _SAFE and headers.get("origin") != f"http://{host}":
            return "changes are taken from this server's own pages only"
        return ""

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(), self.token.encode())

    def _cookie_of(self, headers: Headers) -> str:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return ""
        return found.value if found is not None else ""

    def _welcome(self, path: str, given: Mapping[str, str]) -> Response:
        """Sets the cookie and goes on without the token in the address.

        By a page, not by a redirect: where the address was clicked on another site, the browser
        would not send a strict cookie along with the redirected request.
        """
        rest = {name: value for name, value in given.items() if name != "token"}
        local = "/" + path.lstrip("/\\")
        target = html.escape(f"{local}?{urlencode(rest)}" if rest else local)
        response = HTMLResponse(
            f'<!doctype html><meta charset="utf-8"><title>mmalign</title>'
            f'<link rel="icon" href="data:,">'
            f'<meta http-equiv="refresh" content="0;url={target}">'
            f'<p><a href="{target}">Go on</a></p>'
        )
        response.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
        return response
