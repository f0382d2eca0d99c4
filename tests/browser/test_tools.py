"""Tools that run in the console: cards for each call, approved or denied, in one answer over reloads and windows."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.browser.console import Console
from tests.browser.scripted_model import ScriptedModel
from tests.interop.browser import Browser
from tests.processes import Server, server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

CARD = "const card = (state) => page.locator(`.tool[data-state='${state}']`);"
ROLL = CARD + "await ask('roll 2'); await card('approval').waitFor();"


@pytest.fixture
async def sidecar(tmp_path: Path, model: ScriptedModel) -> AsyncIterator[Server]:
    """A server whose model calls tools."""
    async with server(model, cwd=tmp_path, capabilities=["completion", "tools"]) as running:
        yield running


async def test_a_tool_that_needs_approval_runs_once_it_has_it_and_the_same_answer_goes_on(
    console: Console, sidecar: Server
) -> None:
    seen = await console.run(
        ROLL
        + """
        const asked = await card("approval").innerText();
        const status = await answer().locator(".phase").innerText();
        await page.getByRole("button", { name: "Approve" }).click();
        await ended();
        return { asked, status, done: await card("ok").innerText(), texts: await answers(), said: await said() };
        """
    )
    assert "roll_dice" in seen["asked"]
    assert '{"count":2}' in seen["asked"]
    assert "min" in seen["asked"]
    assert seen["status"] == "Waiting for you"
    assert '"dice":' in seen["done"]
    assert seen["texts"][0] == "Let me roll."
    assert seen["texts"][1].startswith('It says: {"dice":')
    assert seen["said"] == ["roll 2"]
    offered = (await sidecar.next_chat()).json()["tools"]
    assert [each["function"]["name"] for each in offered] == ["current_time", "roll_dice"]


async def test_a_denied_call_does_not_run_and_the_model_is_told_why(console: Console) -> None:
    seen = await console.run(
        ROLL
        + """
        await page.getByLabel("Why not (the model is told)").fill("I don't gamble");
        await page.getByRole("button", { name: "Deny" }).click();
        await ended();
        return [await card("denied").count(), (await answers()).at(-1)];
        """
    )
    assert seen[0] == 1
    assert "I don't gamble" in seen[1]


async def test_a_tool_that_needs_no_approval_runs_at_once(console: Console) -> None:
    seen = await console.run(CARD + "await ask('time'); await ended(); return card('ok').innerText();")
    assert "time_zone" in seen


async def test_a_call_waits_over_a_reload_and_is_the_same_in_every_window(browser: Browser, sidecar: Server) -> None:
    async with Console(browser, sidecar.url, "one") as one, Console(browser, sidecar.url, "two") as two:
        await one.run(ROLL)
        await one.run(CARD + "await page.reload(); await card('approval').waitFor();")
        await two.run(CARD + "await page.locator('.row .entry').first().click(); await card('approval').waitFor();")
        await two.run("await page.getByRole('button', { name: 'Approve' }).click();")
        results = [await each.run(CARD + "await ended(); return card('ok').innerText();") for each in (one, two)]
        assert results[0] == results[1]
        # Stored, it looks the same.
        again = await one.run(CARD + "await page.reload(); await ended(); return card('ok').innerText();")
        assert again == results[0]


async def test_what_is_said_meanwhile_is_told_before_the_next_step_and_stays_in_its_place(console: Console) -> None:
    seen = await console.run(
        ROLL
        + """
        await ask("Make it quick.");
        await has("sent to the model before its next step");
        await page.getByRole("button", { name: "Approve" }).click();
        await ended();
        const live = [await texts(shown.locator(".steered")), await said(), await answers()];
        await page.reload();
        await ended();
        return [live, [await texts(shown.locator(".steered")), await said(), await answers()]];
        """
    )
    live, stored = seen
    assert live[:2] == [["Make it quick."], ["roll 2"]]
    assert live == stored


async def test_stopping_ends_what_waits(console: Console) -> None:
    seen = await console.run(
        ROLL
        + """
        await page.keyboard.press("Escape");
        await ended();
        return [await card("cancelled").count(), await answers()];
        """
    )
    assert seen == [1, ["Let me roll."]]


async def test_that_an_answer_waits_is_seen_from_other_conversations(console: Console) -> None:
    seen = await console.run(
        ROLL
        + """
        await page.keyboard.press("Alt+b");
        await page.locator(".welcome").waitFor();
        await page.locator(".row .live[data-waiting=true]").waitFor();
        return [await page.locator(".tab .live").getAttribute("aria-label"), await page.locator(".row .live").count()];
        """
    )
    assert seen == ["an answer is waiting for you", 1]


async def test_where_the_tools_are_not_wanted_none_are_offered(console: Console, sidecar: Server) -> None:
    await console.run("""
        await shown.getByRole("button", { name: "Settings" }).click();
        await page.getByLabel("Offer this page").uncheck();
        await page.keyboard.press("Escape");
        await ask("say one");
        await ended();
    """)
    assert "tools" not in (await sidecar.next_chat()).json()


async def test_what_is_said_meanwhile_and_refused_is_back_in_the_field_with_the_reason(console: Console) -> None:
    seen = await console.run(
        ROLL
        + """
        // Half a character: the server refuses it.
        await field().evaluate((field) => {
            field.value = "and \\ud83d more";
            field.dispatchEvent(new Event("input", { bubbles: true }));
        });
        await field().press("Enter");
        await page.getByRole("alert").filter({ hasText: "The request is invalid" }).waitFor();
        return [await shown.locator(".steered").count(), (await field().inputValue()).startsWith("and ")];
        """
    )
    assert seen == [0, True]


@pytest.mark.parametrize("is_claimed", [False, True])
async def test_who_denies_what_was_approved_elsewhere_a_moment_before_is_told_if_it_runs(
    console: Console, sidecar: Server, *, is_claimed: bool
) -> None:
    # What the server says of the approval is on its way here when a person denies the call.
    stream_id, call_id = await console.run(
        CARD
        + """
        await page.routeWebSocket(/api.v1.ws/, (socket) => {
            socket.connectToServer().onMessage((frame) => {
                const { method = "", params, result } = JSON.parse(frame);
                if (["accepted", "taken"].includes(result?.outcome)) kept.decide();
                if (kept.held && method.startsWith("stream/")) kept.held.push(() => socket.send(frame));
                else socket.send(frame);
                if (method === "stream/tool_call") [kept.call, kept.held] = [[params.stream_id, params.call_id], []];
            });
        });
        kept.decided = new Promise((resolve) => (kept.decide = resolve));
        await page.reload();
        await connected();
        await ask("roll 2");
        await card("approval").waitFor();
        return kept.call;
        """
    )
    url = f"/api/v1/streams/{stream_id}/tool_calls/{call_id}"
    assert (await sidecar.http.post(f"{url}/approval", json={"approved": True})).json()["outcome"] == "accepted"
    if is_claimed:
        assert (await sidecar.http.post(f"{url}/claim", json={"claim": "theirs"})).json()["outcome"] == "claimed"
    notices = await console.run("""
        await page.getByRole("button", { name: "Deny" }).click();
        await kept.decided;
        await drawn();
        for (const send of kept.held) send();
        kept.held = undefined;
        return texts(page.locator(".notice"));
    """)
    if is_claimed:
        result = {"claim": "theirs", "content": "12", "status": "ok"}
        assert (await sidecar.http.post(f"{url}/result", json=result)).json()["outcome"] == "accepted"
    state = await console.run("await ended(); return page.locator('.tool').getAttribute('data-state');")
    assert ("roll_dice was not denied" in notices[0], state) == (is_claimed, "ok" if is_claimed else "denied")
