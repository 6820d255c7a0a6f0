"""What MkDocs asks while it builds the site: files of the repository, and figures.

The pages read well on GitHub too, so links to code, configuration and figures are relative paths
there. Here such a file becomes a page of the site below ``repository/``, the README is the site's
first page, and drawings are put into the page itself, where they take the theme's colours.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
COPIES = "repository"
LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".tf": "terraform"}
_LINK = re.compile(r"(?<=\]\()(?P<path>\.\./[^)\s#]+)")
_DRAWING = re.compile(r'<p><img [^>]*?src="(?P<path>[^":]+\.svg)"[^>]*></p>')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of the repository that pages link to, as pages."""
    for file in list(files.documentation_pages()):
        text = Path(str(file.abs_src_path)).read_text()
        for found in _LINK.finditer(text):
            path = _repository_path(file.src_uri, found["path"])
            if path in (None, "README.md") or files.get_file_from_path(f"{COPIES}/{path}.md"):
                continue
            if not (ROOT / str(path)).is_file():
                raise PluginError(f"docs/{file.src_uri} links to {path}, which is no file")
            files.append(
                File.generated(
                    config,
                    f"{COPIES}/{path}.md",
                    content=_listing(str(path)),
                    inclusion=InclusionLevel.NOT_IN_NAV,
                )
            )
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Point links at the copies of the repository's files."""
    source = page.file.src_uri

    def link(found: re.Match[str]) -> str:
        path = _repository_path(source, found["path"])
        if path is None:
            return found["path"]
        target = "index.md" if path == "README.md" else f"{COPIES}/{path}.md"
        return os.path.relpath(target, posixpath.dirname(source) or ".")

    return _LINK.sub(link, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Put drawings into the page, so that they follow its light and dark colours."""

    def drawing(found: re.Match[str]) -> str:
        folder = posixpath.dirname(page.file.dest_uri)
        path = posixpath.normpath(posixpath.join(folder, found["path"]))
        svg = (Path(config.docs_dir) / path).read_text()
        return f'<div class="drawing" tabindex="0">{svg[svg.index("<svg") :]}</div>'

    return _DRAWING.sub(drawing, html)


def _listing(path: str) -> str:
    """A file of the repository as a page, which the search passes over."""
    language = LANGUAGES.get(Path(path).suffix, "text")
    text = (ROOT / path).read_text()
    fence = "`" * 8  # longer than any in the file
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n"
    return f"{head}\n{fence}{language}\n{text}{fence}\n"


def _repository_path(source: str, link: str) -> str | None:
    """Path below the repository's root of a link out of docs/; None if it stays inside."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(source), link))
    return None if path.startswith("docs/") else path
