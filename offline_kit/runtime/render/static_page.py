"""The page at ``/`` of the router: files of the kit that are the same for every kit, and the headers that hold them.

Rules: they are files of the kit, mounted read-only, and not what the engine image answers; no key is asked for, since they tell
nothing of this host; the policy lets the page run its own script and ask this host, nothing else, and nobody frames it; no text
becomes markup or script in it (trusted types).
"""

from __future__ import annotations

from typing import List

from .nginx import page

FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}


def static_page(folder: str) -> List[str]:
    """The locations of the page, whose files lie in ``folder``."""
    # add_header of a location replaces all that it would have of its server.
    headers = ["add_header X-Request-ID $request_name always;"]
    headers += [f'add_header {name} "{text}" always;' for name, text in _HEADERS.items()]
    return [
        page(
            path,
            "limit_req zone=health burst=200 nodelay;",
            f'default_type "{kind}; charset=utf-8";',
            *headers,
            f"root {folder};",
            # Not alias: nginx takes a path that ends with a slash for a folder.
            f"try_files /{name} =404;",
        )
        for path, (name, kind) in FILES.items()
    ]
