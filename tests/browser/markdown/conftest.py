"""What the tests of Markdown share: a page with it, in a context of its own."""

from collections.abc import AsyncIterator

import pytest

from tests.browser.markdown.page import MarkdownPage, markdown_page
from tests.interop.browser import Browser


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[MarkdownPage]:
    """The page, open."""
    async with markdown_page(browser) as opened:
        yield opened
