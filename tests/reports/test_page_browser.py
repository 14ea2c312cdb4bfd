"""The report page as a person uses it, in Chromium: filters, order, links, keys, and boxes at the right pixels."""

import json
import re
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from pages import HOSTILE, NAMES, make_runs
from typer.testing import CliRunner

from migician.cli import app
from migician.evaluation.run_folder import read_run
from migician.reports.page.runs import write_page
from migician.reports.runs import open_run

expect = pytest.importorskip("playwright.sync_api", reason="dev extra not installed: bash scripts/setup.sh").expect
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def records(runs):
    return [read_run(run)[1] for run in runs]


@pytest.fixture(scope="module")
def address(runs, tmp_path_factory):
    page = write_page(runs, ["first", "second"], runs[0].parent, tmp_path_factory.mktemp("page"))
    return page.as_uri()


@pytest.fixture(scope="module")
def shared_tab(chromium):
    tab = chromium.new_page(viewport=WIDE, reduced_motion="reduce")
    tab.set_default_timeout(5000)
    tab.asked = []
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.faults = []
    tab.on("pageerror", lambda error: tab.faults.append(str(error)))
    tab.on("console", lambda message: message.type == "error" and tab.faults.append(message.text))
    yield tab
    tab.close()


@pytest.fixture
def tab(shared_tab, address):
    shared_tab.set_viewport_size(WIDE)
    shared_tab.goto("about:blank")
    shared_tab.goto(address)
    yield shared_tab
    # Also that the policy refused nothing of the page's own, which would be told as an error.
    assert shared_tab.faults == []
    assert [url for url in shared_tab.asked if not url.startswith(("file:", "about:"))] == []


def cards(tab):
    """The rows of all cards, drawing those that are left."""
    tab.evaluate("() => { const more = document.getElementById('more'); while (!more.hidden) more.click(); }")
    return [
        int(one.removeprefix("card-")) for one in tab.locator(".card").evaluate_all("all => all.map(one => one.id)")
    ]


def test_only_a_few_cards_are_drawn_at_first_and_scrolling_brings_more(tab):
    assert 24 <= tab.locator(".card").count() < 90
    assert tab.locator("#count").inner_text() == "90 samples"
    tab.locator("#more").scroll_into_view_if_needed()
    tab.locator(".card").nth(40).wait_for(state="attached")


def test_filters_answer_as_the_records_do(tab, records):
    first, second = records
    tab.get_by_label("Task", exact=True).select_option("region")
    assert cards(tab) == [at for at, one in first.items() if one.task == "region"]
    tab.get_by_label("Outcome", exact=True).select_option("wrong_box")
    assert cards(tab) == [at for at, one in first.items() if one.task == "region" and one.outcome == "wrong_box"]
    tab.get_by_label("Run", exact=True).select_option("1")
    assert cards(tab) == [at for at, one in second.items() if one.task == "region" and one.outcome == "wrong_box"]
    tab.get_by_role("button", name="Reset").click()
    assert len(cards(tab)) == 90
    tab.get_by_label("IoU from", exact=True).fill("0.61")
    tab.get_by_label("to", exact=True).fill("0.8")
    assert cards(tab) == [at for at, one in first.items() if 0.61 <= one.iou <= 0.8] != []


@pytest.mark.parametrize(("choice", "wanted"), [
    ("only-A", (True, False)), ("only-B", (False, True)), ("all", (True, True)), ("none", (False, False)),
])  # fmt: skip
def test_what_one_run_gets_and_the_other_misses(tab, records, choice, wanted):
    tab.get_by_label("Right", exact=True).select_option(choice)
    right = {at: tuple(run[at].outcome == "correct" for run in records) for at in records[0]}
    assert cards(tab) == [at for at, one in right.items() if one == wanted] != []


def test_text_is_sought_in_questions_and_replies(tab, records):
    tab.get_by_label("Text", exact=True).fill("NUMBER 7.")
    assert cards(tab) == [7]
    tab.get_by_label("Text", exact=True).fill("no such thing")
    given = [at for at in records[0] if any("no such thing" in run[at].reply for run in records)]
    assert cards(tab) == given
    tab.get_by_label("Text", exact=True).fill("nowhere to be found")
    assert cards(tab) == [] and "loosen a filter" in tab.locator("#count").inner_text()


@pytest.mark.parametrize(("order", "sign"), [("low", 1), ("high", -1)])
def test_order_by_iou(tab, records, order, sign):
    tab.get_by_label("Order", exact=True).select_option(order)
    assert cards(tab) == sorted(records[0], key=lambda at: (sign * records[0][at].iou, at))


def test_a_link_leads_to_its_sample_and_its_filter(tab, address, records):
    tab.goto(address + "#row-71&task=reasoning")
    expect(tab.locator("dialog h2")).to_contain_text("row 71")
    given = [at for at, one in records[0].items() if one.task == "reasoning"]
    assert tab.locator(".place").inner_text() == f"{given.index(71) + 1} of {len(given)}"
    assert tab.get_by_label("Task", exact=True).input_value() == "reasoning"
    tab.goto(address + "#row-9999")
    expect(tab.locator("dialog")).to_be_hidden()


def test_the_address_follows_what_is_shown(tab):
    tab.get_by_label("Outcome", exact=True).select_option("no_box")
    tab.get_by_label("Order", exact=True).select_option("high")
    assert tab.evaluate("location.hash") == "#outcome=no_box&sort=high"
    tab.locator(".card").nth(1).click()
    row = tab.locator("dialog h2").inner_text().split()[1]
    assert tab.evaluate("location.hash") == f"#row-{row}&outcome=no_box&sort=high"
    tab.go_back()
    expect(tab.locator("dialog")).to_be_hidden()
    assert tab.evaluate("location.hash") == "#outcome=no_box&sort=high"


def test_by_keyboard_alone(tab):
    tab.locator("#card-0").focus()
    tab.keyboard.press("Enter")
    tab.wait_for_selector("dialog[open]")
    assert tab.locator("dialog button").first.is_disabled()
    for key, row in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", 0), ("ArrowLeft", 0)):
        tab.keyboard.press(key)
        assert tab.evaluate("location.hash") == f"#row-{row}"
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Escape")
    expect(tab.locator("dialog")).to_be_hidden()
    assert tab.evaluate("document.activeElement.id") == "card-1"
    # Every control can be reached, and where the focus is can be seen.
    tab.locator("form select").first.focus()
    seen = []
    for _ in range(8):
        outline = "getComputedStyle(document.activeElement).outlineStyle !== 'none'"
        seen.append(tab.evaluate(f"[document.activeElement.name || document.activeElement.type, {outline}]"))
        tab.keyboard.press("Tab")
    assert seen == [[name, True] for name in ("task", "run", "outcome", "right", "from", "to", "sort", "text")]


@pytest.mark.parametrize("viewport", [WIDE, NARROW])
def test_boxes_are_at_the_right_pixels(tab, address, records, viewport):
    tab.set_viewport_size(viewport)
    shown = 0
    for row in [at for at in range(1, 40) if all(run[at].boxes for run in records)][:4]:
        tab.goto(f"{address}#row-{row}")
        expect(tab.locator("dialog h2")).to_contain_text(f"row {row}")
        tab.locator("dialog img").evaluate_all("all => Promise.all(all.map(one => one.decode()))")
        boxes = [records[0][row].truth, *(run[row].boxes[0] for run in records)]
        for look, box in enumerate(boxes):
            mark = tab.locator(f"dialog rect.mark[data-look='{look}']")
            image = tab.locator("dialog figure").nth(records[0][row].target)
            x, y, width, height = on_screen(image.locator("img"))
            wanted = (x + box[0] * width, y + box[1] * height, (box[2] - box[0]) * width, (box[3] - box[1]) * height)
            assert on_screen(mark) == pytest.approx(wanted, abs=0.6)
            assert width / height == pytest.approx((900 / 300, 64 / 128)[records[0][row].target], rel=0.02)
            shown += 1
    assert shown == 12


def on_screen(locator):
    return locator.evaluate("one => { const b = one.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; }")


def test_a_hostile_reply_is_text(tab, address):
    tab.goto(address + "#row-0")
    expect(tab.locator("dialog")).to_be_visible()
    title = tab.title()
    assert HOSTILE in tab.locator(".words").all_text_contents()
    assert tab.locator("dialog script, dialog img[onerror], .card script").count() == 0
    assert NAMES[1].split("/")[-1] in tab.locator("dialog .caption").nth(1).text_content()
    assert title == tab.title() != "taken"


def test_the_policy_lets_no_other_script_run(tab):
    tab.evaluate("""() => {
        const one = document.createElement("script");
        one.textContent = "document.title = 'taken'";
        document.body.append(one);
    }""")
    assert tab.title() != "taken"
    assert any("Content Security Policy" in fault for fault in tab.faults)
    tab.faults.clear()


@pytest.mark.parametrize("viewport", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows(tab, address, viewport, scheme):
    tab.set_viewport_size(viewport)
    tab.emulate_media(color_scheme=scheme)
    for where in ("", "#row-0"):
        tab.goto(address + where)
        expect(tab.locator("dialog")).to_be_visible(visible=bool(where))
        tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert tab.evaluate(
            "[...document.querySelectorAll('dialog')].every((one) => one.scrollWidth <= one.clientWidth)"
        )
    tab.emulate_media(color_scheme="light")


def test_a_number_of_the_overview_leads_to_its_samples(tab, records):
    link = tab.locator(".share").first
    count = int(link.inner_text())
    link.click()
    expect(tab.locator("#count")).to_have_text(f"{count} of 90 samples")
    tab.get_by_role("link", name=str(only(records)), exact=True).last.click()
    expect(tab.get_by_label("Right", exact=True)).to_have_value("only-B")
    assert len(cards(tab)) == only(records)


def only(records):
    return sum(two.outcome == "correct" != records[0][at].outcome for at, two in records[1].items())


def test_of_three_runs_any_two_can_be_told_apart(tab, runs, records, tmp_path):
    page = write_page([*runs, runs[0]], ["x", "y", "z"], runs[0].parent, tmp_path)
    tab.goto(page.as_uri())
    right = {at: [run[at].outcome == "correct" for run in records] for at in records[0]}
    for choice, wanted in (("A-not-B", [True, False]), ("B-not-C", [False, True]), ("only-B", [False, True])):
        tab.get_by_label("Right", exact=True).select_option(choice)
        assert cards(tab) == [at for at, one in right.items() if one == wanted] != []
    tab.get_by_label("Right", exact=True).select_option("only-A")
    assert cards(tab) == []  # the third run is the first again
    assert tab.locator(".comparison").count() == 3


# ---- the same digits everywhere ----

# Values on which rounding twice, or JavaScript's toFixed, gives another digit than rounding once.
TRAPS = [74.8449996, 74.8450004, 0.125, 1.005, 2.675, 66.66666666666667, 8.3749999999, 99.995, 50.0, 33.3349995]
FIGURE = re.compile(r"[+-]?\d+\.\d\d \([^()]*\)")
METRICS = ("acc@0.3", "acc@0.5", "acc@0.7", "mean_iou")


def trapped(figures, at):
    """Figures of a report whose values are traps, each another."""
    values = {metric: TRAPS[(at + 3 * place) % len(TRAPS)] for place, metric in enumerate(METRICS)}
    spans = {metric: [value * 0.9449, min(100, value + 0.25)] for metric, value in values.items()}
    return {**figures, **values, "interval": spans}


def once(value, digits):
    """The oracle: the binary number rounded once, exactly."""
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN))


def expected(figures, metric):
    low, high = figures["interval"][metric]
    return f"{once(figures[metric], 2)} ({once(low, 1)}-{once(high, 1)})"


@pytest.fixture(scope="module")
def trap_runs(tmp_path_factory):
    folders = make_runs(tmp_path_factory.mktemp("traps"), 30)
    for seed, folder in enumerate(folders):
        told = json.loads((folder / "report.json").read_text())
        told["per_task"] = {task: trapped(one, seed + at) for at, (task, one) in enumerate(told["per_task"].items())}
        told["average"], told["micro"] = trapped(told["average"], seed + 5), trapped(told["micro"], seed + 7)
        for key in ("by_box_size", "by_images"):
            classes = told["breakdowns"][key].items()
            told["breakdowns"][key] = {label: trapped(one, seed + 4) for label, one in classes}
        (folder / "report.json").write_text(json.dumps(told))
    return folders


def rows_of(tab, caption):
    """The figures in the rows of the page's table of that name, as they are read."""
    rows = tab.get_by_role("region", name=caption, exact=True).locator("tbody tr")
    cells = "all => all.map((row) => [...row.cells].map((one) => one.textContent).join(' | '))"
    return [FIGURE.findall(text) for text in rows.evaluate_all(cells)]


def test_page_table_and_terminal_agree_in_every_digit(tab, trap_runs, tmp_path):
    reports = [json.loads((folder / "report.json").read_text()) for folder in trap_runs]
    tasks = list(reports[0]["per_task"])
    every = [[expected(one["per_task"][task], metric) for metric in METRICS] for task in tasks for one in reports]
    averages = [[expected(one[key], metric) for metric in METRICS] for one in reports for key in ("average", "micro")]
    headline = [[expected(one["per_task"][task], "acc@0.5") for one in reports] for task in tasks]
    headline.append([expected(one["average"], "acc@0.5") for one in reports])
    broken_down = [
        [[expected(one["breakdowns"][key][label], metric) for one in reports for metric in ("acc@0.5", "mean_iou")]
         for label in reports[0]["breakdowns"][key]]
        for key in ("by_box_size", "by_images")
    ]  # fmt: skip

    shown = CliRunner().invoke(
        app, ["report", *map(str, trap_runs), "--images", str(trap_runs[0].parent), "--out", str(tmp_path)]
    )
    terminal = [found for line in shown.stdout.splitlines() if (found := FIGURE.findall(line))]
    assert terminal == [*every, averages[0], averages[2]]
    for run, told in zip(trap_runs, reports, strict=True):
        alone = open_run(run)._repr_markdown_().splitlines()
        own = [
            [expected(one, metric) for metric in METRICS]
            for one in (*told["per_task"].values(), told["average"], told["micro"])
        ]
        assert [found for line in alone if (found := FIGURE.findall(line))] == own
        assert expected(told["average"], "acc@0.5") in repr(open_run(run))

    for form in ("text", "markdown", "latex"):
        done = CliRunner().invoke(app, ["table", *map(str, trap_runs), "--format", form]).stdout
        plain = re.sub(r"\{\\scriptsize (\([^()]*\))\}", r"\1", done).replace("--", "-") if form == "latex" else done
        found = [found for line in plain.splitlines() if (found := FIGURE.findall(line))]
        assert found == [*headline, *averages, *broken_down[0], *broken_down[1]], form

    tab.goto((tmp_path / "index.html").as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert rows_of(tab, "Acc@0.5 by task") == headline
    assert rows_of(tab, "Every metric by task") == every
    captions = tab.locator("details [role=region]").evaluate_all("all => all.map(one => one.ariaLabel)")
    later = [rows_of(tab, caption) for caption in captions if caption.startswith(("Averages", "Share", "Images of"))]
    assert later == [averages, *broken_down]


def test_differences_agree_in_every_digit_too(tab, address, runs):
    found = json.loads(CliRunner().invoke(app, ["compare", *map(str, runs), "--json"]).stdout)
    figures = [*found["per_task"].values(), found["average"]]
    wanted = []
    for one in figures:
        low, high = one["interval"]["acc@0.5"]
        texts = (once(one["acc@0.5"], 2), once(low, 1), once(high, 1))
        signed = [text if text.startswith("-") else f"+{text}" for text in texts]
        wanted.append([f"{signed[0]} ({signed[1]} to {signed[2]})"])
    tests = [f"{one['mcnemar']['p']:.3f}" if one["mcnemar"]["p"] >= 0.001 else "< 0.001" for one in figures]
    printed = CliRunner().invoke(app, ["compare", *map(str, runs)]).stdout.splitlines()
    terminal = [line.rstrip() for line in printed if FIGURE.search(line)]
    assert [FIGURE.findall(line)[1:2] for line in terminal[: len(figures)]] == wanted
    assert [line.endswith(p) for line, p in zip(terminal[len(figures) :], tests, strict=True)] == [True] * len(tests)
    assert rows_of(tab, "second minus first") == wanted
    cells = tab.get_by_role("region", name="second minus first", exact=True).locator("tbody tr td:last-child")
    assert cells.all_text_contents() == tests


def test_the_iou_of_a_card_is_that_of_the_opened_sample(tab, address, records):
    for row in [at for at in range(40) if all(run[at].iou for run in records)][:5]:
        on_card = tab.locator(f"#card-{row} .iou").all_text_contents() if row in cards(tab) else []
        assert on_card == [f"IoU {once(run[row].iou, 2)}" for run in records]
        tab.goto(f"{address}#row-{row}")
        verdicts = tab.locator("dialog .verdict").all_text_contents()
        assert all(one in verdict for one, verdict in zip(on_card, verdicts, strict=True))
        tab.keyboard.press("Escape")


@pytest.mark.parametrize("viewport", [WIDE, NARROW])
def test_runs_that_are_not_like_for_like_are_marked_where_their_figures_are(tab, tmp_path, viewport):
    first, second = make_runs(tmp_path, 12)
    given = ["--data", tmp_path / "data.json", "--answers", tmp_path / "second.jsonl", "--out", second]
    CliRunner().invoke(
        app, ["score", "mig-bench", *map(str, given), "--protocol", "published", "--y-stretch", "--force"]
    )
    tab.set_viewport_size(viewport)
    tab.goto(write_page([first, second], ["first", "second"], tmp_path, tmp_path / "page").as_uri())
    assert "MIG-Bench's form, not a released file" in tab.title() and "2 runs not like for like" in tab.title()
    told = tab.locator(".caution")
    assert told.count() == 2  # beside the scores, and above the comparison
    assert all("the runs differ in protocol and y-stretch" in one for one in told.all_text_contents())
    heads = tab.get_by_role("region", name="Acc@0.5 by task", exact=True).locator("thead th")
    assert "second (published protocol, with y-stretch)" in heads.nth(3).inner_text()
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
