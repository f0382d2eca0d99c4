"""The console's style sheets: what they say is understood."""

import pytest

from tests.browser.console import Console

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


async def test_each_style_that_uses_a_variable_has_an_effect(console: Console) -> None:
    """A browser drops a declaration in silence whose variables make no value of its property."""
    seen = await console.run("""
        return page.evaluate(() => {
            const declared = function* (rules) {
                for (const rule of rules) {
                    if (rule.cssRules) yield* declared(rule.cssRules);
                    const found = rule.style?.cssText.matchAll(/(?:^|; )([a-z][^:]*): ([^;]*var\\([^;]*)(?=;)/g) ?? [];
                    for (const [, name, value] of found) yield [name, value];
                }
            };
            // Where it inherits nothing that a style here says.
            const parent = document.body.appendChild(document.createElement("div"));
            parent.style.all = "initial";
            const probe = parent.appendChild(document.createElement("div"));
            const shown = () => Array.from(getComputedStyle(probe), (each) => getComputedStyle(probe)[each]).join();
            const root = getComputedStyle(document.documentElement);
            const dropped = [];
            let all = 0;
            for (const sheet of document.styleSheets) for (const [name, value] of declared(sheet.cssRules)) {
                const variables = [...value.matchAll(/var\\((--[\\w-]+)/g)].map(([, variable]) => variable);
                if (!variables.every((variable) => root.getPropertyValue(variable))) continue;
                all++;
                probe.removeAttribute("style");
                const before = shown();
                probe.style.setProperty(name, value);
                if (shown() === before) dropped.push(`${name}: ${value}`);
            }
            parent.remove();
            return { all, dropped };
        });
    """)
    assert seen["all"] > 100
    assert seen["dropped"] == []
