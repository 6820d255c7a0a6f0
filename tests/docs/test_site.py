"""The site: builds without a warning, links lead somewhere, and nothing comes from elsewhere."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort
from playwright.sync_api import Page, sync_playwright

from tests.docs.snippets import ROOT

LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}


class Document(HTMLParser):
    """Ids, links, and what a browser loads, of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if (name := LOADED.get(tag)) in given and name:
            self.loaded.append(given[name])


@pytest.fixture(scope="module")
def documents(site: Path) -> dict[Path, Document]:
    """Every page of the site but the one for wrong addresses, whose links are from the root."""
    return {path: Document(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_page_is_built(documents: dict[Path, Document], site: Path) -> None:
    built = {path.relative_to(site).with_suffix("").as_posix() for path in documents}
    pages = {
        path.relative_to(ROOT / "docs").with_suffix("").as_posix()
        for path in (ROOT / "docs").rglob("*.md")
    }
    assert len(pages) > 15
    assert {page for page in built if not page.startswith("repository/")} == pages


@pytest.mark.parametrize("package", ["models", "results", "datasets", "evaluation", "calibration"])
def test_every_public_name_is_in_the_api_reference(package: str, site: Path) -> None:
    module = import_module(f"pipeline.{package}")
    names = getattr(module, "__all__", ["open_results", "Results"])
    ids = Document(site / f"api/{package}.html").ids
    assert [name for name in names if f"pipeline.{package}.{name}" not in ids] == []


def test_files_that_pages_link_to_are_pages_of_the_site(site: Path) -> None:
    listing = (site / "repository/infra/scans.example.yaml.html").read_text()
    assert "infra/scans.example.yaml" in listing
    assert "score_quantile" in listing
    assert "../repository/pipeline/schema.py.html" not in (site / "output.html").read_text()
    assert "repository/pipeline/schema.py.html" in (site / "output.html").read_text()


def test_links_lead_to_pages_and_sections(documents: dict[Path, Document]) -> None:
    broken, followed = [], 0
    for path, document in documents.items():
        for link in [*document.links, *document.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = target in documents if target.suffix == ".html" else target.exists()
            known = documents[target].ids if target in documents else set()
            if not there or (parts.fragment and unquote(parts.fragment) not in known):
                broken.append(f"{path.name}: {link}")
            followed += 1
    assert followed > 1000
    assert broken == []


def test_external_links_are_addresses_and_only_for_people(
    documents: dict[Path, Document],
) -> None:
    external = {
        link
        for document in documents.values()
        for link in document.links
        if urlsplit(link).scheme or link.startswith("//")
    }
    assert "https://arxiv.org/abs/2407.15795" in external
    for link in external:
        parts = urlsplit(link)
        assert parts.scheme == "https", link
        assert re.fullmatch(r"([\w-]+\.)+[a-z]+", parts.hostname or ""), link
    assert [x for each in documents.values() for x in each.loaded if urlsplit(x).netloc] == []


def test_style_sheets_load_nothing_from_elsewhere(site: Path) -> None:
    sheets = list(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        text = sheet.read_text()
        assert not re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)'\"]*", text)


def test_links_of_the_readme_exist() -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text())
    inside = [urlsplit(link) for link in links if not urlsplit(link).scheme]
    assert len(inside) > 15
    for link in inside:
        assert (ROOT / link.path).is_file(), link.path
        if link.fragment:
            headings = re.findall(r"^#+ (.*)$", (ROOT / link.path).read_text(), re.MULTILINE)
            assert link.fragment in [heading.lower().replace(" ", "-") for heading in headings]


def test_what_a_page_refers_to_must_exist(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# Page\n\n[gone](../pipeline/gone.py)\n")
    hook = ROOT / "infra/docs/hooks.py"
    (tmp_path / "mkdocs.yml").write_text(f"site_name: test\nhooks: [{hook}]\n")
    config = load_config(str(tmp_path / "mkdocs.yml"))
    with pytest.raises(Abort):
        build(config)
    assert "pipeline/gone.py, which is no file" in caplog.text


# --- in a browser ---------------------------------------------------------------------------


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """No line a request."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def browser_page(address: str, scheme: str, problems: list[str]) -> Iterator[Page]:
    """A page that notes what is wrong or asked of another address."""
    with sync_playwright() as playwright:
        # Debian's, if it is there; else the one that playwright brings.
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(color_scheme="dark" if scheme == "slate" else "light")
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(address) else problems.append(r.url))
        try:
            yield page
        finally:
            browser.close()


@pytest.mark.parametrize("scheme", ["default", "slate"])
def test_the_figure_follows_the_colours_of_the_page(address: str, scheme: str) -> None:
    problems: list[str] = []
    with browser_page(address, scheme, problems) as page:
        page.goto(f"{address}/concepts.html")
        assert page.evaluate("document.body.dataset.mdColorScheme") == scheme
        colours = page.evaluate(
            """() => {
                const colour = (selector, name) =>
                    getComputedStyle(document.querySelector(selector))[name];
                return [colour("#adaclip-figure .paper", "fill"),
                        colour("#adaclip-figure .bold", "fill"),
                        colour("body", "backgroundColor")];
            }"""
        )
    paper, ink, background = (luminance(each) for each in colours)
    assert paper == background
    assert abs(paper - ink) > 0.5
    assert problems == []


def test_search_finds_a_page_and_nothing_is_asked_of_others(address: str) -> None:
    problems: list[str] = []
    with browser_page(address, "default", problems) as page:
        page.goto(f"{address}/index.html?q=QuickGELU")
        page.wait_for_selector(".md-search-result__link >> nth=0", timeout=120_000)
        found = page.get_attribute(".md-search-result__link >> nth=0", "href")
    assert "differences.html" in (found or "")
    assert problems == []


def luminance(colour: str) -> float:
    """Of a CSS colour, 0 black to 1 white, as if over nothing."""
    red, green, blue = (float(each) for each in re.findall(r"[\d.]+", colour)[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255
