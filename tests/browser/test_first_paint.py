"""What the console loads before its first screen is there."""

import pytest

from tests.browser.first_paint import visited
from tests.interop.browser import Browser
from tests.processes import Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

#: Of script, over the wire, with the HTTP headers.
BUDGET_BYTES = 150_000


async def test_the_first_screen_takes_less_than_150_kb_of_script(browser: Browser, sidecar: Server) -> None:
    told = await visited(browser, sidecar.url)
    assert 50_000 < told["transferred"] < BUDGET_BYTES, told
