"""The page in a real browser: quiet, complete in one file, sorted and filtered by hand, no wider than the screen.

Chromium is looked for at $TSBENCH_TEST_CHROMIUM, on the PATH, and where Playwright installs it; without any, these
tests are skipped with the reason.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up import REALISTIC, Outcome, with_gradients, write_experiment

from tsbench.report.build import build

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

EVIL = "<script>alert(1)</script>"
QUOTED = """'"><img src=x onerror=alert(2)>"""
WIDTHS = (1400, 400)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FEW: dict[str, list[Outcome]] = {"seasonal_naive": [0.5] * 2, "linear": [0.4, 0.41], "gru": [0.3, 0.31]}


class Visit:
    """An open page, and everything that it said or asked for."""

    def __init__(self, context: playwright.BrowserContext, path: Path) -> None:
        self.page = context.new_page()
        self.said: list[str] = []
        self.asked_for: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked_for.append(request.url))
        self.page.goto(path.as_uri())

    def column(self, place: int) -> list[str]:
        """What is seen in a column of the first leaderboard."""
        rows = self.page.locator(".leaderboard").first.locator("tbody tr:visible")
        return [row.locator("td, th").nth(place).inner_text() for row in rows.all()]


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    found = [os.environ.get("TSBENCH_TEST_CHROMIUM"), *map(shutil.which, NAMES)]
    path = next((path for path in found if path), None)
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium starts ({str(error).splitlines()[0]}); `playwright install chromium` brings one")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of several experiments: one data set, several, failures only, one model, gradients, and a hostile name."""

    def page(name: str, *arguments: object, **options: object) -> Path:
        return build(write_experiment(tmp_path_factory.mktemp(name), *arguments, **options))  # type: ignore[arg-type]

    return {
        "one": page("one", REALISTIC, edit=with_gradients),
        "many": page("many", FEW, ["streets", "parks", "roads", "squares", "bridges", "paths", "a" * 60]),
        "failures": page("failures", {"gru": ["failed: x", None], "lstm": ["diverged: y"] * 2}),
        "single": page("single", {"gru": [0.3]}),
        "long": page("long", FEW | {f"transformer {'hidden_size=64 ' * 6}": [0.2, 0.21]}, ["a" * 70]),
        "hostile": page("hostile", FEW | {f"mlp {EVIL}": [0.35, 0.36]}, [EVIL, QUOTED]),
    }


@pytest.fixture
def visit(browser: playwright.Browser, reports: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Visit]:
    """Of the report that a test is parametrised with."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True)
    yield Visit(context, reports[request.param])
    context.close()


def of(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("visit", names, indirect=True)


@of("one", "many", "failures", "single", "long", "hostile")
def test_the_page_is_silent_asks_for_nothing_and_fits_every_screen(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            page.emulate_media(color_scheme=scheme)
            picture = tmp_path / f"{scheme}-{width}.png"
            page.screenshot(path=picture, full_page=True)
            assert int.from_bytes(picture.read_bytes()[16:20], "big") == width  # no wider than the screen
            assert page.evaluate("document.documentElement.scrollWidth") == width
    page.evaluate("document.querySelectorAll('details').forEach((fold) => (fold.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") == WIDTHS[-1]
    assert visit.said == []
    assert visit.asked_for == [page.url]


@of("hostile")
def test_hostile_names_are_shown_as_they_are(visit: Visit) -> None:
    assert any(EVIL in name for name in visit.column(1))
    assert visit.page.locator("option", has_text=EVIL).count() == 1
    assert visit.page.locator("img").count() == 0
    visit.page.locator("select[name=dataset]").select_option(EVIL)
    assert visit.page.locator(".leaderboard:visible").count() == 1
    assert visit.said == []


@of("one")
def test_a_click_on_a_header_sorts_and_another_turns_it_round(visit: Visit) -> None:
    button = visit.page.locator(".leaderboard thead button", has_text="MAE").first
    heads = visit.page.locator(".leaderboard thead tr").nth(1).locator("th").all_inner_texts()
    place = heads.index("MAE")
    button.click()
    ascending = [float(cell) for cell in visit.column(place)]
    assert ascending == sorted(ascending)
    button.focus()
    visit.page.keyboard.press("Enter")  # by keyboard, too
    assert [float(cell) for cell in visit.column(place)] == ascending[::-1]


@of("one")
def test_a_model_that_has_no_value_is_last_either_way(visit: Visit) -> None:
    button = visit.page.locator(".leaderboard thead button", has_text="Train w/s")
    for _ in range(2):
        button.click()
        assert {name.split()[0] for name in visit.column(1)[-3:]} == {"naive", "seasonal_naive", "profile"}


@of("one")
def test_numbers_are_sorted_as_numbers_however_they_are_written(visit: Visit) -> None:
    visit.page.locator("#audit details").evaluate_all("folds => folds.forEach((fold) => (fold.open = true))")
    visit.page.locator("#audit thead button", has_text="Parameters").click()
    cells = visit.page.locator("#audit tbody tr td:last-child").all_inner_texts()

    sizes = [float(cell.replace(",", "").replace("k", "e3")) for cell in cells]
    assert len({cell[-1] for cell in cells}) > 1  # with k and without
    assert sizes == sorted(sizes)


@of("one")
def test_names_in_the_filter_leave_their_rows_alone(visit: Visit) -> None:
    box = visit.page.locator("#filter input")
    box.fill("gru, LSTM")
    assert [name.split()[0] for name in visit.column(1)] == ["gru", "lstm"]
    assert visit.page.locator("#filter output").inner_text() == "2 of 12 rows"
    visit.page.locator("#filter button").click()
    visit.page.locator("#filter output", has_text="12 of 12 rows").wait_for(timeout=5000)
    box.fill("nothing is called so")
    assert visit.column(1) == []


@of("many")
def test_a_data_set_in_the_filter_leaves_its_tables_and_pictures_alone(visit: Visit) -> None:
    assert visit.page.locator(".leaderboard:visible").count() == 7
    visit.page.locator("select[name=dataset]").select_option("parks")
    assert visit.page.locator(".leaderboard:visible").count() == 1
    assert visit.page.locator(".heat tbody tr:visible").count() == 1
    assert visit.page.locator("#filter select[name=horizon]").count() == 0  # there is but one


@of("one", "many", "hostile")
def test_what_is_downloaded_is_what_lies_beside_the_page(visit: Visit, reports: dict[str, Path]) -> None:
    folder = next(path.parent for path in reports.values() if path.as_uri() == visit.page.url)
    links = visit.page.locator("#downloads a")
    found = {}
    for link in links.all():
        with visit.page.expect_download() as waiting:
            link.click()
        found[waiting.value.suggested_filename] = Path(waiting.value.path()).read_text(encoding="utf-8")

    assert set(found) == {"leaderboard.csv", "comparisons.csv", "errors.csv", "records.json"}
    for name in ("leaderboard.csv", "comparisons.csv", "errors.csv"):
        assert found[name] == (folder / name).read_text(encoding="utf-8")
        assert len(list(csv.DictReader(io.StringIO(found[name])))) > 2
    keys = {path.stem for path in folder.glob("records/*/*.json")}
    assert {record["key"] for record in json.loads(found["records.json"])} == keys
    assert visit.said == []


@of("one")
def test_without_a_script_the_tables_are_complete(visit: Visit, browser: playwright.Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(visit.page.url)
    assert page.locator(".leaderboard tbody tr").count() == 12
    assert not page.locator("#filter").is_visible()
    context.close()


@of("one")
def test_on_paper_everything_is_unfolded(visit: Visit) -> None:
    assert visit.page.locator("details:not([open])").count() > 0
    visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert visit.page.locator("details:not([open])").count() == 0


@of("long")
def test_a_long_name_leaves_room_for_the_numbers_beside_it(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 400, "height": 860})
    names = visit.page.locator(".leaderboard tbody th")
    assert all(box["width"] < 200 for name in names.all() if (box := name.bounding_box()))


@of("failures")
def test_the_first_screen_of_failures_says_why_and_how_to_go_on(visit: Visit) -> None:
    for width, height in ((1400, 900), (400, 860)):
        visit.page.set_viewport_size({"width": width, "height": height})
        for words in ("Why, the most frequent first: y (2 runs)", "To go on, change what the reason names"):
            place = visit.page.locator("#verdict .prose p", has_text=words).bounding_box()
            assert place is not None
            assert place["y"] + place["height"] < height


@of("one")
def test_the_first_screen_says_which_model_how_sure_what_cost_and_on_what_data(visit: Visit) -> None:
    for width, height in ((1400, 900), (400, 860)):
        visit.page.set_viewport_size({"width": width, "height": height})
        for words in ("gru", "level with", "windows/s", "Two streets"):
            place = visit.page.locator("#verdict .answer", has_text=words).first.bounding_box()
            assert place is not None
            assert place["y"] + place["height"] < height


@of("one", "many")
def test_everything_that_scrolls_can_be_reached_by_keyboard_and_has_a_name(visit: Visit) -> None:
    for region in visit.page.locator(".scroll").all():
        assert region.get_attribute("tabindex") == "0"
        assert region.get_attribute("aria-label")
    for picture in visit.page.locator("svg").all():
        assert picture.get_attribute("role") == "img"
        assert picture.get_attribute("aria-label")


@of("one", "many")
def test_every_link_within_the_page_leads_somewhere(visit: Visit) -> None:
    targets = visit.page.eval_on_selector_all("a[href^='#']", "links => links.map(link => link.getAttribute('href'))")
    assert targets
    for target in set(targets):
        assert visit.page.locator(target).count() == 1, target


@of("one", "many")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_a_contrast_of_four_and_a_half(visit: Visit, scheme: str) -> None:
    visit.page.emulate_media(color_scheme=scheme)
    contrasts = visit.page.evaluate(_CONTRASTS)
    assert len(contrasts) > 50
    worst = min(contrasts, key=lambda found: found["contrast"])
    assert worst["contrast"] >= 4.5, worst


_CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const over = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const written = "p, td, th, dt, dd, li, a, h1, h2, h3, summary, figcaption, label, .tag, output";
  for (const element of document.querySelectorAll(written)) {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
    if (!text || !element.checkVisibility()) continue;
    const papers = [];
    for (let at = element; at; at = at.parentElement) papers.unshift(getComputedStyle(at).backgroundColor);
    const paper = light(over(papers)), ink = light(over([...papers, getComputedStyle(element).color]));
    const contrast = (Math.max(paper, ink) + 0.05) / (Math.min(paper, ink) + 0.05);
    found.push({text: text.slice(0, 40), contrast});
  }
  return found;
}"""
