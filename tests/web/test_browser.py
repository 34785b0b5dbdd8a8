"""The pages in a real Chromium: looks, keyboard, script and no script, and what a model's text can't do."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from src.access import AccessPolicy
from src.core.clock import Clock
from src.core.store import Store, TaskSelection
from src.records import Result, TaskStatus
from src.web import create_app
from src.web.context import AppContext
from src.web.serving import make_server
from src.web.template_filters import batch_url
from tests.once import share_templates

from .browser import axe_source, chromium, follow, violations
from .filled import BATCH, ME, SCRIPT, FilledState, fill, show_in_flight
from .filled import served as at_work
from .test_provider_batches import NAME as AT_PROVIDERS
from .test_provider_batches import deferring, intended, submitted, with_every_kind_of_row

pytestmark = pytest.mark.browser
TOKEN = "a-token-that-nobody-guesses"
# Tables wider than their frame, unless they can be moved in it; what becomes cards has nothing to move.
CUT_OFF = """[...document.querySelectorAll("table")].filter(table => {
  const frame = table.closest(".scroll") ?? table.parentElement;
  const moves = getComputedStyle(frame).overflowX === "auto" && !table.matches(".list");
  return table.scrollWidth > frame.clientWidth && !moves;
}).map(table => table.closest(".card")?.id || table.className)"""
# Numbers that are torn from their unit or from each other.
TORN = """[...document.querySelectorAll(".spark + small, .num, .formula")].filter(text =>
  text.matches(".formula")
    ? new Set([...text.children].map(part => Math.round(part.getBoundingClientRect().top))).size > 1
    : getComputedStyle(text).whiteSpace !== "nowrap"
).map(text => text.textContent)"""


# Numbers without a visible window ("now", "today", "all time") at their label: beside them, in the heading of
# their column, row, tile or section. Numbers of one task or of one line of a file need none.
NO_WINDOW = """[...document.querySelectorAll(
  ".tile .big, td.num, .pairs b, .agent .num, .gauges .num, figcaption"
)].filter(number => {
  const isOfOne = number.closest("table.tasks, table.reasons, .timeline") || number.querySelector("time");
  if (!/[0-9]/.test(number.textContent) || isOfOne) return false;
  const column = number.closest("table")?.tHead?.rows[0].cells[number.cellIndex];
  const labels = [
    number, column, number.closest("tr")?.querySelector(".window:is(th, td)"),
    number.closest("table")?.caption, number.closest(".tile"),
    number.closest(".pairs > div"), number.closest(".gauges")?.previousElementSibling,
    number.closest(".card")?.querySelector("h2"),
  ];
  const isShown = part => part.textContent.trim() && part.getClientRects().length;
  const windows = label => [label, ...label.querySelectorAll("*")].filter(part => part.matches(".window"));
  return !labels.some(label => label && windows(label).some(isShown));
}).map(number => number.closest("[id]")?.id + ": " + number.textContent.trim())"""


@dataclass(frozen=True)
class Served:
    """A filled store behind a real server."""

    url: str
    filled: FilledState
    store: Store
    app: Flask

    def set_token(self) -> None:
        self.app.extensions["orchestrator"].access = AccessPolicy.from_environment(
            "127.0.0.1", {"ORCHESTRATOR_TOKEN": TOKEN}
        )

    def pages(self) -> dict[str, str]:
        task = f"/rows/{self.filled.answered_row}"
        return {
            "dashboard": "/",
            "new": "/new",
            "batches": "/batches",
            "batch": batch_url(BATCH),
            "providers": "/provider-status",
            "rebalance": "/rebalance",
            "tasks": "/tasks",
            "task": task,
            "failed": f"/rows/{self.filled.failed_row}",
            "waiting": f"/rows/{self.filled.queued_row}",
            "costs": "/costs",
            "costs by day": "/costs?by=day&range=week",
            "events": "/events",
            "more filters": "/tasks?order=oldest",
            "nothing found": "/tasks?id=nothing-begins-so",
            "error": "/rows/999999999",
        }


def with_batches_at_providers(served: Served) -> dict[str, str]:
    """The pages that show them, after some were created: done, late, in progress and not sent yet."""
    now = served.filled.now
    deferring(served.store, now - 9_000, count=60)
    with_every_kind_of_row(served.store, now - 9_000, limit=6)
    submitted(served.store, now - 8_000, limit=20, provider="gemini")
    batch = submitted(served.store, now - 60, limit=20)
    task = served.store.provider_batches.tasks(batch.id)[0].task.row
    intended(served.store, now, limit=10)
    return {
        "batches at providers": "/provider-batches",
        "a batch with some at providers": batch_url(AT_PROVIDERS),
        "a task in a batch at a provider": f"/rows/{task}",
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    filled = fill(tmp_path / "state", Clock().now())
    with Store.open(filled.database, simulated=True) as store:
        app = create_app(AppContext(filled.settings, store, simulated=True))
        share_templates(app)
        server = make_server(app, [("127.0.0.1", 0)], threads=4)
        thread = threading.Thread(target=server.run)
        thread.start()
        yield Served(f"http://127.0.0.1:{server.effective_port}", filled, store, app)
        server.task_dispatcher.shutdown()  # first: what is still being answered needs the server
        for channel in [*server.active_channels.values()]:
            channel.will_close = True  # a browser keeps connections, and the server waits for them
        server.pull_trigger()
        server.close()
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page whose console must stay empty: no policy violation, no exception."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    said: list[str] = []
    opened = context.new_page()
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.set_default_timeout(60_000)
    yield opened
    context.close()
    assert said == []


@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious_and_no_table_is_cut_off(served: Served, browser: Any, width: int) -> None:
    source = axe_source()
    context = browser.new_context(color_scheme="light", viewport={"width": width, "height": 800})
    page = context.new_page()

    def check(name: str) -> None:
        page.wait_for_load_state()  # with the stylesheet, or colours are those of the browser
        assert violations(page, source) == [], name
        page.emulate_media(color_scheme="dark")
        assert violations(page, source, "color-contrast") == [], f"{name}, dark"
        page.emulate_media(color_scheme="light")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is wider than this"
        assert page.evaluate(CUT_OFF) == [], f"{name} has a table that is cut off"

    for name, path in served.pages().items():
        page.goto(served.url + path)
        check(name)
    page.goto(f"{served.url}/new")
    tasks = b'{"prompt": "Why?"}\n{"promt": "bad"}\n'
    page.set_input_files("input[type=file]", {"name": "t.jsonl", "mimeType": "text/plain", "buffer": tasks})
    page.get_by_role("button", name="Preview file").click()
    page.wait_for_url("**/uploads/**")
    check("upload")
    page.goto(f"{served.url}/rebalance")
    page.locator("#weight-openai").fill("50")
    page.get_by_role("button", name="Apply").click()
    page.get_by_text("The new weights are set.").wait_for()
    check("rebalance with a history")
    page.goto(f"{served.url}/rebalance?preset=suggested")
    check("rebalance with a suggestion")
    page.goto(f"{served.url}/provider-status")
    for details in page.locator(".provider details").all():
        details.locator("summary").click()
    check("providers with their details")
    page.goto(served.url + batch_url(BATCH))
    page.get_by_role("button", name="Purge contents").click()
    page.get_by_role("button", name="Purge 7 tasks").wait_for()
    check("the question before a purge")
    for name, path in with_batches_at_providers(served).items():
        page.goto(served.url + path)
        check(name)
    served.set_token()
    page.goto(f"{served.url}/tasks")
    check("login")
    page.get_by_label("Token").fill("a wrong one")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").wait_for()
    check("login with a wrong token")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/tasks")
    check("signed in")
    context.close()


@pytest.mark.parametrize("width", [1200, 1280])
def test_no_number_is_torn_from_its_unit(served: Served, page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{served.url}/provider-status")
    assert page.evaluate(TORN) == []


def test_every_number_names_its_window(served: Served, page: Any) -> None:
    with at_work(served.filled.database):
        paths = {**served.pages(), "suggestion": "/rebalance?preset=suggested"}
        del paths["error"]  # its status would be a message in the console
        for name, path in paths.items():
            page.goto(served.url + path)
            assert page.evaluate(NO_WINDOW) == [], name
        for name, path in with_batches_at_providers(served).items():
            page.goto(served.url + path)
            assert page.evaluate(NO_WINDOW) == [], name
        page.goto(f"{served.url}/new")
        tasks = b'{"prompt": "Why?"}\n{"promt": "bad"}\n'
        file = {"name": "t.jsonl", "mimeType": "text/plain", "buffer": tasks}
        page.set_input_files("input[type=file]", file)
        page.get_by_role("button", name="Preview file").click()
        page.wait_for_url("**/uploads/**")
        assert page.evaluate(NO_WINDOW) == []
        assert page.locator(".window").count() > 3
        page.evaluate("document.querySelector('.window').remove()")
        assert page.evaluate(NO_WINDOW) != [], "the search finds a number without a window"


@pytest.mark.parametrize(
    ("path", "table", "unit"), [("/", "#providers", "calls today"), ("/batches", "#list", "ended")]
)
def test_a_narrow_page_shows_every_number_with_its_unit(
    served: Served, page: Any, path: str, table: str, unit: str
) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    page.goto(served.url + path)
    for cell in page.locator(f"{table} tbody tr").first.locator("td:not(.grow, .none)").all():
        box = cell.bounding_box()
        assert box["x"] + box["width"] <= 400
    units = "cells => cells.map(cell => getComputedStyle(cell, '::after').content).join()"
    assert unit in page.locator(f"{table} [data-unit]").evaluate_all(units)


def test_a_waiting_task_and_a_call_in_flight_are_distinguished(served: Served, page: Any) -> None:
    (claimed,) = served.store.tasks.page(9, TaskSelection([TaskStatus.RUNNING])).rows
    show_in_flight(served.filled, served.store, [claimed.row])
    states = page.locator("#list .pill")
    with at_work(served.filled.database):
        page.goto(f"{served.url}/tasks")
        texts = states.all_inner_texts()
        assert texts.count("in flight") == 1 and texts.count("waiting") == 2
        for state, count in (("in flight", 1), ("waiting", 2)):
            page.get_by_label("State").select_option(label=state)
            follow(page.get_by_role("button", name="Filter"))
            assert states.all_inner_texts() == [state] * count
        page.goto(f"{served.url}/rows/{claimed.row}")
        assert page.locator("#verbs .pill").inner_text() == "in flight"


def test_a_model_answer_made_of_script_tags_stays_text(served: Served, page: Any) -> None:
    page.goto(f"{served.url}/rows/{served.filled.answered_row}")
    assert page.locator("#output").inner_text() == SCRIPT
    assert page.title().startswith("t-script")
    for path in ("/tasks", "/"):
        page.goto(served.url + path)
        assert "taken over" not in page.title()
    assert "no price for <script>" in page.locator("#answer").inner_text()


def test_values_refresh_in_place_without_losing_focus_or_scroll(served: Served, page: Any) -> None:
    page.set_viewport_size({"width": 1280, "height": 400})
    page.goto(f"{served.url}/provider-status")
    details = page.locator("#agents")
    details.scroll_into_view_if_needed()
    page.get_by_role("button", name="Pause").last.focus()
    at = page.evaluate("scrollY")
    served.store.controls.put_setting("paused", ["openai"], who="somebody", now=Clock().now())
    shows = "document.querySelector('#openai .pill').textContent.includes('Paused')"
    assert page.evaluate(
        f"(async () => {{ for (let i = 0; i < 500 && !{shows}; i++) await tick(); return {shows}; }})()"
    )
    assert page.evaluate("scrollY") == at
    assert page.evaluate("document.activeElement.textContent") == "Pause"


@pytest.fixture
def troubled(browser: Any) -> Iterator[Any]:
    """A page whose console may report failed requests."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context.new_page()
    context.close()


def test_a_page_without_its_server_is_marked_stale_until_it_is_back(served: Served, troubled: Any) -> None:
    page = troubled
    page.goto(served.url)
    notice = page.locator("#unreachable")
    assert notice.is_hidden()
    page.route("**/*", lambda route: route.abort())
    page.evaluate("document.getElementById('main').dataset.refresh = '0.2'; schedule()")
    notice.wait_for(state="visible")
    assert "The server does not answer. This page shows the state of" in notice.inner_text()
    assert page.evaluate("getComputedStyle(document.querySelector('.state')).filter") == "grayscale(1)"
    page.unroute("**/*")
    notice.wait_for(state="hidden")


def test_an_error_stands_beside_its_field_which_keeps_its_text(served: Served, troubled: Any) -> None:
    page = troubled
    page.goto(f"{served.url}/new")
    page.locator("[name=prompt]").fill("Why?")
    page.get_by_label("Max tokens").fill("many")
    follow(page.get_by_role("button", name="Submit"))
    field = page.locator("[name=max_tokens]")
    assert field.get_attribute("aria-invalid") == "true"
    described_by = page.locator(f"#{field.get_attribute('aria-describedby')}")
    assert "must be a whole number, not 'many'" in described_by.inner_text()
    page.wait_for_function("document.activeElement.name === 'max_tokens'")  # set when the page is first drawn
    assert page.locator("[name=prompt]").input_value() == "Why?"


def test_a_refresh_does_not_disturb_typing(served: Served, page: Any) -> None:
    page.goto(f"{served.url}/tasks")
    field = page.get_by_label("Id begins with")
    field.fill("half an")
    page.evaluate("document.getElementById('main').dataset.refresh = '0.2'; schedule()")
    page.locator("#refreshed", has_text="Refreshed").wait_for()
    field.press_sequentially(" id")
    assert field.input_value() == "half an id"


def test_the_chart_reads_out_the_row_of_its_table_at_the_pointer(served: Served, page: Any) -> None:
    page.goto(served.url)
    chart = page.locator("#traffic .timechart")
    box = chart.locator(".plot").first.bounding_box()
    units = int(chart.get_attribute("data-units"))
    page.mouse.move(box["x"] + box["width"] * (units - 0.5) / units, box["y"] + 20)
    said = chart.locator(".readout").inner_text().splitlines()
    row = chart.locator("tbody tr").last
    assert said[0] == row.locator("th").text_content()
    heads = chart.locator("thead th").all_text_contents()[1:]
    cells = row.locator("td").all_text_contents()
    expected = [f"{head}  {cell}" for head, cell in zip(heads, cells, strict=True) if cell]
    assert said[1:] == expected and any("Calls: failed" in line for line in expected)
    assert chart.locator(".cursor").count() == 3
    assert (
        page.evaluate("(async () => { await tick(); return document.querySelectorAll('.cursor').length; })()")
        == 3
    )
    page.mouse.move(box["x"], 0)
    assert chart.locator(".readout").is_hidden() and chart.locator(".cursor").count() == 0


def test_another_range_is_a_link_that_a_refresh_keeps(served: Served, page: Any) -> None:
    page.goto(served.url)
    page.get_by_role("group", name="Range").get_by_role("link", name="Day").click()
    page.wait_for_url("**range=day**")
    assert page.locator("#traffic h2").inner_text() == "Traffic last day"
    page.evaluate("tick()")
    page.locator("#refreshed", has_text="Refreshed").wait_for()
    assert page.locator("#traffic h2").inner_text() == "Traffic last day"


def test_a_batch_is_found_watched_retried_by_reason_and_exported(served: Served, page: Any) -> None:
    with at_work(served.filled.database):
        page.goto(f"{served.url}/batches")
        page.get_by_label("Name contains").fill("RESULTS of")
        follow(page.get_by_role("button", name="Search"))
        follow(page.get_by_role("link", name=BATCH))
        assert page.locator("h1").inner_text() == BATCH
        assert "7 of 10 tasks ended" in page.locator("#progress").inner_text()
        reason = page.locator("#reasons tbody tr", has_text="server error")
        follow(reason.get_by_role("button", name="Run again"))
        assert page.get_by_text("1 task is queued again.").is_visible()
        assert "server error" not in page.locator("#reasons").inner_text()
        assert "retried" in page.locator("#events").inner_text()
        page.get_by_label("with prompts").check()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download CSV").click()
        text = download.value.path().read_text(encoding="utf-8")
        assert text.splitlines()[0].split(",")[4:6] == ["prompt", "output"] and "Question 0?" in text


def test_sliders_always_sum_to_100_and_show_the_shares_before_applying(served: Served, page: Any) -> None:
    page.goto(f"{served.url}/rebalance")
    slider = page.get_by_role("slider", name="openai")
    with page.expect_response("**/rebalance"):
        slider.fill("80")
    numbers = {
        name: float(page.locator(f"#weight-{name}").input_value())
        for name in ("anthropic", "openai", "gemini")
    }
    assert numbers == {"anthropic": 10.0, "openai": 80.0, "gemini": 10.0}
    page.locator("#shares tr[data-provider=openai] [data-cell=share]", has_text="80.0 %").wait_for()
    assert served.store.controls.settings_version() == 0
    page.get_by_role("button", name="Equal").or_(page.get_by_role("link", name="Equal")).click()
    assert page.locator("#weight-gemini").input_value() == "33.3"
    slider.fill("100")
    slider.fill("40")  # the others come back from nothing, evenly
    assert page.locator("#weight-gemini").input_value() == "30.0"
    page.get_by_role("button", name="Apply").click()
    page.get_by_text("The new weights are set.").wait_for()
    assert served.store.controls.current_settings()["weights"]["openai"] == 0.4


def test_weights_are_moved_on_the_page_of_the_providers_too(served: Served, page: Any) -> None:
    """The effect follows the slider by keyboard, a refresh leaves it alone, and Apply comes back here."""
    page.goto(f"{served.url}/provider-status")
    slider = page.get_by_role("slider", name="gemini")
    slider.focus()
    page.keyboard.press("End")
    page.locator("#shares tr[data-provider=gemini] [data-cell=share]", has_text="100.0 %").wait_for()
    bars = page.locator("#effect .stacked")
    assert bars.nth(0).get_attribute("aria-label") == (
        "Shares before: anthropic 30.0 %, openai 40.0 %, gemini 30.0 %"
    )
    assert bars.nth(1).get_attribute("aria-label") == "Shares after: gemini 100.0 %"
    page.evaluate("tick()")
    assert bars.nth(1).get_attribute("aria-label") == "Shares after: gemini 100.0 %"
    page.get_by_role("button", name="Apply").click()
    page.get_by_text("The new weights are set.").wait_for()
    assert page.url.endswith("/provider-status#weighing")
    assert served.store.controls.current_settings()["weights"]["gemini"] == 1.0


def test_a_change_made_elsewhere_shows_while_the_page_is_open(served: Served, page: Any) -> None:
    page.goto(f"{served.url}/rebalance")
    weights = {"anthropic": 0.1, "openai": 0.1, "gemini": 0.8}
    served.store.controls.put_setting("weights", weights, who="somebody", now=Clock().now())
    in_force = page.locator("#sets tr.chosen .stacked")
    assert "gemini 30 %" in in_force.get_attribute("aria-label")
    shows = "document.querySelector('#sets tr.chosen').textContent.includes('gemini 80 %')"
    assert page.evaluate(
        f"(async () => {{ for (let i = 0; i < 500 && !{shows}; i++) await tick(); return {shows}; }})()"
    )
    assert "gemini 80 %" in in_force.get_attribute("aria-label")
    assert "somebody" in page.locator("#history").inner_text()
    page.get_by_role("link", name="By price").click()  # a preset by its link, after refreshes
    page.evaluate("tick()")
    assert page.locator("#weight-gemini").input_value() != "80.0"


def test_the_details_of_a_provider_stay_open(served: Served, page: Any) -> None:
    page.goto(f"{served.url}/provider-status")
    summary = page.locator("#openai summary")
    summary.focus()
    page.keyboard.press("Enter")
    page.locator("#openai-details .formula").wait_for()
    page.evaluate("tick()")
    assert page.locator("#openai-details .formula").is_visible()


def test_everything_is_reached_by_keyboard(served: Served, page: Any) -> None:
    wanted = {
        "/": {"Dashboard", "Batches", "Providers", "Rebalance", "Tasks", "New", "Hour", "Month", "openai"},
        "/new": {"prompt", "task_type", "tier", "max_tokens", "Submit", "file", "Preview file"},
        "/batches": {"name", "Search", BATCH},
        batch_url(BATCH): {
            "Run again",
            "Download JSONL",
            "Download CSV",
            "prompts",
            "All tasks of this batch",
        },
    }
    for path, names in wanted.items():
        page.goto(served.url + path)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to content"
        reached = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            name = "document.activeElement.name || document.activeElement.textContent.trim()"
            reached.add(page.evaluate(name))
        assert names <= reached, path


def test_without_script_every_form_still_works(served: Served, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{served.url}/rebalance")
    assert page.get_by_role("slider").count() == 0
    follow(page.get_by_role("link", name="Equal"))
    assert page.locator("#weight-openai").input_value() == "33.3"
    page.locator("#weight-openai").fill("50")
    follow(page.get_by_role("button", name="Preview"))
    assert page.locator("#weight-openai").input_value() == "42.9"
    follow(page.get_by_role("button", name="Apply"))
    assert page.get_by_text("The new weights are set.").is_visible()
    follow(page.get_by_role("button", name="Undo last change"))
    assert page.locator("#weight-openai").input_value() == "40.0"
    page.goto(f"{served.url}/new")
    page.get_by_label("File", exact=True).set_input_files(
        {"name": "two.txt", "mimeType": "text/plain", "buffer": b"a?\nb?\n"}
    )
    follow(page.get_by_role("button", name="Preview file"))
    follow(page.get_by_role("button", name="Start 2 tasks"))
    assert page.get_by_text("2 tasks are queued.").is_visible()
    context.close()


def test_times_are_local_with_the_exact_one_on_hover(served: Served, browser: Any) -> None:
    context = browser.new_context(timezone_id="Asia/Tokyo", locale="en-GB")
    page = context.new_page()
    page.goto(f"{served.url}/rows/{served.filled.answered_row}")
    time = page.locator("#facts time").first
    utc_hour = int(time.get_attribute("datetime")[11:13])
    shown = re.search(r"(\d\d):\d\d", time.inner_text())
    assert shown and int(shown[1]) == (utc_hour + 9) % 24
    assert time.get_attribute("datetime") in time.get_attribute("title")
    context.close()


def test_a_hidden_or_idle_page_polls_seldom(served: Served, page: Any) -> None:
    served.store.orchestrators.retire(ME, now=Clock().now())
    page.goto(f"{served.url}/provider-status")
    assert page.evaluate("waitS()") >= 5
    page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true})")
    assert page.evaluate("waitS()") == 60


# ------------------------------------------------------------------ copying, rendered answers, earlier ends

MARKDOWN = "# A title\n\n- **one**\n- [two](https://two.example/)\n\n<b>no markup</b> ![picture](https://pixel.example/x.png)"


def end_with(served: Served, output: str) -> int:
    """Answer the queued task with this; returns its row."""
    row = served.filled.queued_row
    (task,) = [task for task in served.store.queue.claim(ME, 9, now=served.filled.now) if task.row == row]
    result = Result(task, TaskStatus.SUCCEEDED, served.filled.now, output=output, tier="economy")
    served.store.queue.finish(ME, [result])
    return row


def test_copy_buttons_copy_the_answer_the_id_curl_and_json(served: Served, browser: Any) -> None:
    row = end_with(served, MARKDOWN)
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{served.url}/rows/{row}")
    found = served.store.tasks.at_row(row)
    assert found is not None

    def copied(name: str) -> str:
        page.get_by_role("button", name=name, exact=True).click()
        page.get_by_role("button", name="Copied").wait_for()
        text = str(page.evaluate("navigator.clipboard.readText()"))
        page.get_by_role("button", name=name, exact=True).wait_for()
        return text

    assert copied("Copy") == MARKDOWN
    assert copied("Copy id") == found.row.id
    assert copied("Copy curl") == f"curl -s {served.url}/api/rows/{row}"
    assert json.loads(copied("Copy JSON"))["result"]["output"] == MARKDOWN
    context.close()


def test_an_answer_is_shown_rendered_and_as_it_is(served: Served, page: Any) -> None:
    page.goto(f"{served.url}/rows/{end_with(served, MARKDOWN)}")
    rendered, raw = page.locator("#answer .rendered"), page.locator("#output")
    assert rendered.locator("li strong").inner_text() == "one"
    assert "<b>no markup</b>" in rendered.inner_text()
    assert page.locator("#answer img").count() == 0
    assert page.locator("#answer a[rel='noopener noreferrer nofollow']").count() == 2
    assert not raw.is_visible()
    page.get_by_label("Rendered").focus()
    page.keyboard.press("ArrowRight")
    assert raw.is_visible() and not rendered.is_visible()
    assert raw.inner_text() == MARKDOWN


def test_without_script_both_views_work_and_nothing_offers_to_copy(served: Served, browser: Any) -> None:
    row = end_with(served, '{"a": [1, 2]}')
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{served.url}/rows/{row}")
    assert page.locator("#answer .rendered").inner_text() == '{\n  "a": [\n    1,\n    2\n  ]\n}'
    page.get_by_text("Raw", exact=True).click()
    assert page.locator("#output").inner_text() == '{"a": [1, 2]}'
    assert page.locator("button.copy:visible").count() == 0
    page.goto(f"{served.url}/tasks")
    page.get_by_text("More filters").click()
    page.get_by_label("Order").select_option("oldest")
    follow(page.get_by_role("button", name="Filter"))
    assert "order=oldest" in page.url
    page.goto(f"{served.url}/costs")
    follow(page.get_by_role("link", name="submitter"))
    assert page.locator("[aria-current=true]", has_text="submitter").count() == 1
    page.goto(f"{served.url}/events")
    page.get_by_label("Level").select_option("alert")
    follow(page.get_by_role("button", name="Filter"))
    assert page.locator(".events li").count() == 1
    context.close()


def test_a_task_that_runs_again_shows_its_earlier_answer(served: Served, page: Any) -> None:
    row = end_with(served, "The first answer.")
    page.goto(f"{served.url}/rows/{row}")
    assert page.locator("#earlier").count() == 0
    page.get_by_role("button", name="Run again").click()
    page.get_by_text("The task is queued again.").wait_for()
    assert page.locator("#earlier pre").inner_text() == "The first answer."
    end_with(served, "The second answer.")
    page.goto(f"{served.url}/rows/{row}")
    assert page.locator("#answer pre").inner_text() == "The second answer."
    page.locator("#earlier summary").click()
    assert page.locator("#earlier pre").inner_text() == "The first answer."


def test_the_list_is_searched_and_the_dates_of_costs_are_chosen(served: Served, page: Any) -> None:
    served.store.search.prepare()
    while served.store.search.index_some():
        pass
    page.goto(f"{served.url}/tasks")
    page.get_by_label("Prompt and answer").fill("formula")
    page.keyboard.press("Enter")
    page.get_by_text("1 task matches").wait_for()
    page.goto(f"{served.url}/costs")
    page.get_by_label("From").fill("2020-01-01")
    page.get_by_label("to", exact=True).fill("2020-01-31")
    page.get_by_role("button", name="Show").click()
    page.get_by_text("No call was made in this time.").wait_for()
