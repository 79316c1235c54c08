"""The dashboard's files, under a URL that changes whenever any of them does.

Main entry: `Assets.find`. Every page is the same small document; which page it shows, its script reads from the URL. It
names the modules that the page will import, so that they come at once and not one level of imports after the other.
Laws: only files that were there when the first was asked for are served, by exact name, so no path leads out of the
folder; nothing is read before somebody asks; a document may load what comes from here and nothing else (the policy
below), so a model's answer that gets into a page cannot run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from posixpath import dirname, normpath

__all__ = ["HTML_HEADERS", "Asset", "Assets"]

_STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_INDEX = "index.html"
_VERSION_MARK = b"{{version}}"
_MODULES_MARK = b"{{modules}}\n"
_SCRIPT, _PAGES = "app.js", "pages/index.js"
_IMPORT = re.compile(r"""^(?:import|export) [^"'()]*from "(\.[^"]+)";""", re.MULTILINE)
_PAGE = re.compile(r"""\{ page: "([^"]*)".*import\("\./([^"]+)"\)""")

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HTML_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""For the document. `no-cache`: asked for again each time, so that a new version is seen at once."""

_FOREVER = "public, max-age=31536000, immutable"
_STALE = "no-store"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, ready to send."""

    body: bytes
    content_type: str
    cache_control: str


class Assets:
    """The files of one folder."""

    def __init__(self, folder: Path = _STATIC) -> None:
        self._folder = folder
        self._paths: dict[str, Path] = {}
        self._version = ""
        self._modules: dict[str, list[str]] = {}

    @property
    def version(self) -> str:
        """Twelve hex digits that stand for all files together."""
        if not self._version:
            digest = sha256()
            for path in sorted(self._folder.rglob("*")):
                if path.suffix in _TYPES:
                    name = path.relative_to(self._folder).as_posix()
                    self._paths[name] = path
                    digest.update(name.encode() + b"\0" + path.read_bytes())
            self._version = digest.hexdigest()[:12]
        return self._version

    def document(self, page: str = "") -> bytes:
        """The document, for a page by its name in the URL."""
        version = self.version
        links = "".join(
            f'<link rel="modulepreload" href="/dashboard/static/{version}/{name}">\n' for name in self._modules_of(page)
        )
        text = self._paths[_INDEX].read_bytes().replace(_MODULES_MARK, links.encode())
        return text.replace(_VERSION_MARK, version.encode())

    def _modules_of(self, page: str) -> list[str]:
        """What the frame and the page import, and what that imports; none twice."""
        if not self._modules:
            for name, file in _PAGE.findall(self._paths[_PAGES].read_text(encoding="utf-8")):
                self._modules[name] = list(self._imported([_SCRIPT, f"pages/{file}"]))[1:]
        return self._modules.get(page, [])

    def _imported(self, names: list[str]) -> dict[str, None]:
        found = dict.fromkeys(names)
        for name in (waiting := list(names)):
            for other in _IMPORT.findall(self._paths[name].read_text(encoding="utf-8")):
                module = normpath(f"{dirname(name)}/{other}").lstrip("/")
                if module in self._paths and module not in found:
                    found[module] = None
                    waiting.append(module)
        return found

    def find(self, version: str, name: str) -> Asset | None:
        """A file by the version that the document named. A page that was loaded before an update still finds the files
        that are there, but does not keep them."""
        current = self.version
        path = self._paths.get(name)
        if path is None or name == _INDEX:
            return None
        return Asset(path.read_bytes(), _TYPES[path.suffix], _FOREVER if version == current else _STALE)
