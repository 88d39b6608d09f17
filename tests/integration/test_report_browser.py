"""The report page in headless Chromium: Debian's chromium and chromium-driver (tests/system/packages.sh)."""

import base64
import gzip
import json
import re

import pytest
from click.testing import CliRunner
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from analysis.cli import main
from tests.unit.analysis.report_run import DURESS, make_run

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1100,900"),
)
WATCH = """
window.seen = [];
addEventListener("securitypolicyviolation", (e) => window.seen.push(`${e.violatedDirective} ${e.blockedURI}`));
addEventListener("error", (e) => window.seen.push(e.message));
addEventListener("unhandledrejection", (e) => window.seen.push(String(e.reason)));
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    directory = make_run(tmp_path_factory.mktemp("browser") / "my-run")
    result = CliRunner().invoke(main, ["report", str(directory)])
    assert result.exit_code == 0, result.stderr
    return directory / "report.html"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(tmp_path_factory, report, downloads):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        allowed = {"behavior": "allow", "downloadPath": str(downloads)}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
        driver.get(report.as_uri())
        until(driver, lambda d: d.execute_script("return document.body.dataset.charts") == "drawn")
        yield driver
    finally:
        driver.quit()


def until(driver, condition):
    return WebDriverWait(driver, 20, poll_frequency=0.05).until(condition)


def find(driver, selector):
    return driver.find_element(By.CSS_SELECTOR, selector)


def test_every_chart_is_drawn(browser):
    plots = browser.find_elements(By.CSS_SELECTOR, ".plot")
    assert [plot.get_attribute("id") for plot in plots] == [
        f"{kind}-{n}" for kind in ("front", "breakdown") for n in (1, 2, 3, 4)
    ]
    for plot in plots:
        marks = (
            ".scatterlayer .points path" if plot.get_attribute("id").startswith("front") else ".barlayer .point path"
        )
        assert len(plot.find_elements(By.CSS_SELECTOR, marks)) >= 7


def test_pointing_at_a_point_shows_cut_stages_and_times(browser):
    plot = find(browser, "#front-1")
    point = plot.find_elements(By.CSS_SELECTOR, ".scatterlayer .trace:last-child .points path")[0]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", plot)
    ActionChains(browser).move_to_element(point).perform()
    words = until(browser, lambda d: plot.find_element(By.CSS_SELECTOR, ".hoverlayer .hovertext").text)
    assert re.search(r"latency [\d.]+ ± [\d.]+ ms", words)
    assert re.search(r"computing: pi1 [\d.]+", words)
    assert "depth 1, socket, eager, batch 8, pi-to-pi" in words or "depth 2, socket" in words


def test_the_keyboard_reaches_charts_and_their_points(browser):
    browser.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    reached = []
    for _ in range(40):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        reached.append(browser.execute_script("return document.activeElement.id || document.activeElement.className"))
        if reached[-1] == "front-1":
            break
    assert reached[0] == "skip"
    assert reached[-1] == "front-1"
    outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    ActionChains(browser).send_keys(Keys.ARROW_RIGHT).perform()
    first = find(browser, "#front-1-readout").text
    assert re.match(r"1 of \d+: .*, depth \d, .* latency .* throughput .* computing: pi1", first)
    ActionChains(browser).send_keys(Keys.END).perform()
    last = find(browser, "#front-1-readout").text
    total = re.match(r"(\d+) of (\d+): ", last)
    assert total[1] == total[2]
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert find(browser, "#front-1-readout").text == ""


def test_another_variant_of_a_breakdown_is_drawn_and_tabulated(browser):
    figure = find(browser, "section[aria-labelledby='breakdown-1-title']")
    browser.execute_script("arguments[0].open = true", figure.find_element(By.CSS_SELECTOR, "details"))
    before = until(browser, lambda d: figure.find_element(By.CSS_SELECTOR, "table").text)
    options = figure.find_elements(By.CSS_SELECTOR, "select option")
    assert [option.text for option in options] == ["depth 1", "depth 2"]
    options[1].click()
    after = until(browser, lambda d: figure.find_element(By.CSS_SELECTOR, "table").text)
    assert after != before
    assert [row.split()[0] for row in after.splitlines()[-7:]] == ["remote", "P1", "P2", "P3", "P4", "P5", "local"]


def test_the_download_is_the_embedded_csv(browser, report, downloads):
    button = find(browser, "button.download[data-table='records']")
    button.click()
    path = downloads / button.get_attribute("data-file")
    until(browser, lambda d: path.exists() and path.stat().st_size)
    payload = re.search(r'id="records-data">([^<]*)<', report.read_text())[1]
    expected = gzip.decompress(base64.b64decode(payload))
    until(browser, lambda d: path.stat().st_size == len(expected))
    assert path.read_bytes() == expected
    assert expected.count(b"\n") > 100


def test_rows_are_shown_and_searched_on_demand(browser):
    find(browser, "button.show[data-table='points']").click()
    view = find(browser, "#points-view")
    until(browser, lambda d: view.find_elements(By.CSS_SELECTOR, "tbody tr"))
    assert len(view.find_elements(By.CSS_SELECTOR, "tbody tr")) == 50
    total = int(re.search(r"1 to 50 of (\d+)", find(browser, "#points-status").text)[1])
    find(browser, "#points-search").send_keys(DURESS.upper())
    status = until(browser, lambda d: (text := find(d, "#points-status").text) and "match" in text and text)
    assert re.search(rf"of (\d+) that match, of {total}\.", status)
    assert all(DURESS in row.text for row in view.find_elements(By.CSS_SELECTOR, "tbody tr"))
    find(browser, "button.show[data-table='points']").click()
    until(browser, lambda d: not view.is_displayed())


def test_it_follows_the_dark_scheme(browser):
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        colours = browser.execute_script(
            "const c = (q, p) => getComputedStyle(document.querySelector(q))[p];"
            "return [c('body', 'backgroundColor'), c('body', 'color'), c('.plot .xtick text', 'fill')]"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert colours == ["rgb(20, 23, 26)", "rgb(232, 235, 238)", "rgb(232, 235, 238)"]


def test_a_phone_scrolls_tables_and_not_the_page(browser):
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        until(browser, lambda d: d.execute_script("return document.querySelector('#front-1 svg').clientWidth") < 360)
        wide = browser.execute_script(
            "return [document.documentElement.scrollWidth, innerWidth, ...[...document.querySelectorAll('.scroll')]"
            ".map((box) => box.scrollWidth - box.clientWidth)]"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide[:2] == [360, 360]
    assert max(wide[2:]) > 0


def test_it_prints(browser):
    pdf = base64.b64decode(browser.print_page())
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 4
    assert len(pdf) > 50_000


# Last: it looks back on all that was done with the page.
def test_nothing_left_the_page_and_nothing_went_wrong(browser, report):
    assert browser.execute_script("return window.seen") == []
    assert browser.execute_script("return typeof window.stolen") == "undefined"
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    addresses = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert addresses.count(report.as_uri()) == 1
    # chrome: is the browser's own, such as what it prints with.
    assert {address.split(":")[0] for address in addresses} <= {"file", "data", "blob", "chrome"}
    assert [address for address in addresses if address.startswith("file")] == [report.as_uri()]
