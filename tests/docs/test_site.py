"""The site of docs/ builds in strict mode and loads nothing from the internet."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import selectllm
from deployments.steps import ROOT
from tests.docs.pages import pages_of, site

pytestmark = pytest.mark.slow

NO_INTERNET = "http://127.0.0.1:9"  # no server listens there


class Assets(HTMLParser):
    """Collects the files that a browser loads with a page."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev", "alternate"):
            self.loaded.append(values.get("href", ""))
        self.loaded += [values[name] for name in ("src", "srcset", "data", "poster") if name in values]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; returns its folder."""
    pytest.importorskip("mkdocs", reason="`make docs` installs it")
    folder = tmp_path_factory.mktemp("site")
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NO_INTERNET)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | proxies, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_contains_every_page(built: Path) -> None:
    for page in pages_of(site()["nav"]):
        assert (built / page).with_suffix(".html").is_file()


def test_the_site_loads_nothing_from_other_servers(built: Path) -> None:
    pages = list(built.rglob("*.html"))
    assert pages
    for page in pages:
        assets = Assets()
        assets.feed(page.read_text(encoding="utf-8"))
        assert assets.loaded, page
        assert [asset for asset in assets.loaded if re.match(r"(https?:)?//", asset)] == [], page
    for sheet in built.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")) == [], sheet


def test_the_api_page_shows_signatures_and_docstrings(built: Path) -> None:
    page = (built / "api.html").read_text(encoding="utf-8")
    shown = set(re.findall(r'id="selectllm\.(?:\w+\.)*(\w+)"', page))
    assert set(selectllm.__all__) <= shown
    assert {"budget", "SELECTION", "PREFERENCES", "Strategy", "prefer", "ChatModel", "answer", "FaultyOllama"} <= shown
    text = " ".join(re.sub(r"<[^>]+>", "", page).split())
    assert " ".join((selectllm.select.__doc__ or "").partition(";")[0].replace("`", "").split()) in text
