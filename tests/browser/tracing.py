"""How long a page's thread was busy at a time, from Chromium's trace."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tests.interop.browser import Browser

T = TypeVar("T")
#: Beyond this a task of the page's thread is felt (W3C, Long Tasks).
LONG_TASK_MS = 50
#: What the yardstick takes on a machine on which nobody waits: there the limit is 50 ms, on a slower one more.
YARDSTICK_MS = 42
_YARDSTICK = """
    const draw = () => {
        const box = document.createElement("div");
        const began = performance.now();
        document.body.append(box);
        for (let number = 0; number < 3000; number += 1) {
            const paragraph = document.createElement("p");
            paragraph.textContent = `paragraph ${number} with some words that may wrap`;
            box.append(paragraph);
        }
        box.getBoundingClientRect();
        const took = performance.now() - began;
        box.remove();
        return took;
    };
    return Math.min(...Array.from({ length: 9 }, draw));
"""
_TASKS = """
    const { traceEvents } = JSON.parse(await kept.browser.stopTracing());
    const threads = traceEvents.filter(({ args }) => args?.name === "CrRendererMain");
    const isOurs = ({ pid, tid }) => threads.some((thread) => thread.pid === pid && thread.tid === tid);
    const tasks = traceEvents.filter((event) => /RunTask/.test(event.name) && event.tdur && isOurs(event));
    const lengths = tasks.map(({ tdur }) => tdur / 1000);
    return { longest_ms: Math.max(...lengths), long: lengths.filter((ms) => ms > limit).length };
"""


@dataclass(frozen=True)
class Tasks:
    """The tasks of a page's thread: the longest in milliseconds, and how many were too long. In the thread's own time,
    which other programs of the machine have little part in."""

    longest_ms: float
    long: int


async def traced(browser: Browser, page: str, doing: Callable[[], Awaitable[T]]) -> tuple[T, Tasks]:
    """What `doing` gave, and what the page of that name did meanwhile."""
    await browser.control(page, "await kept.browser.startTracing(page, { categories: ['toplevel'] });")
    told = await doing()
    return told, Tasks(**await browser.control(page, _TASKS, limit=LONG_TASK_MS))


async def slowness(browser: Browser) -> float:
    """How many times as long as usual this machine takes to draw a page, at least 1."""
    await browser.open("yardstick", "about:blank")
    took_ms: float = await browser.run("yardstick", _YARDSTICK)
    await browser.control("yardstick", "await page.close();")
    return max(1.0, took_ms / YARDSTICK_MS)
