"""What the console's tests share: Chromium, started once for each file, and a page with Markdown on it."""

from collections.abc import AsyncIterator

import pytest

from tests.browser.markdown.page import MarkdownPage, markdown_page
from tests.interop.browser import chromium
from tests.interop.javascript import javascript


@pytest.fixture
async def page() -> AsyncIterator[MarkdownPage]:
    """The page, open in a Chromium of its own."""
    async with javascript() as js, chromium(js) as browser, markdown_page(browser) as opened:
        yield opened
