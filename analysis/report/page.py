"""The report as one HTML document: the template filled in, the style, the script, plotly.js and all data inside.

The document asks for nothing: its content security policy forbids every request, and of scripts it allows the two that
are in it, by their hashes. Texts are escaped by the template engine, and those of the charts by `charts`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import distribution
from importlib.resources import files
from typing import Any

from analysis.report.document import Report


def render(report: Report) -> list[str]:
    """The document in pieces, which may be large; the same text for the same report and the same version of plotly."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    source = files("analysis.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(source.joinpath("page.html.j2").read_text("utf-8"))
    scripts = [inline_script(text) for text in (get_plotlyjs(), source.joinpath("report.js").read_text("utf-8"))]
    drawings = {
        chart.ident: [drawing for _, drawing in chart.variants]
        for chart in (*report.fronts, *report.breakdowns)
        if chart.variants
    }
    pieces = template.generate(
        report=report,
        policy=policy(scripts),
        style=Markup(source.joinpath("style.css").read_text("utf-8")),  # noqa: S704  # our own file
        plotly_script=Markup(scripts[0]),  # noqa: S704  # safe by `inline_script`
        page_script=Markup(scripts[1]),  # noqa: S704
        drawings=Markup(json_for_html(drawings)),  # noqa: S704  # safe by `json_for_html`
        # Base64 has nothing to escape, and there may be much of it.
        payloads={table.ident: Markup(table.payload) for table in report.data},  # noqa: S704
        plotly_licence=plotly_licence(),
    )
    return list(pieces)


def inline_script(text: str) -> str:
    """A script as it can stand between script tags, with the same meaning.

    `</script` would end it and `<!--` could hide its end; in JavaScript both occur in texts and patterns only, where a
    backslash before the second character changes nothing. A browser reads CR LF as LF, and hashes what it reads.
    """
    return text.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")


def policy(scripts: list[str]) -> str:
    """The content security policy of a document with these inline scripts and no other.

    plotly.js sets styles and makes its pictures through blob: and data: addresses, which are no requests.
    """
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii") for text in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
        "form-action 'none'"
    )


def json_for_html(value: Mapping[str, Any]) -> str:
    """JSON that can stand between script tags: without `<`. Raises ValueError on a number that is not finite."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def plotly_licence() -> str:
    """The licence of the plotly package, which plotly.js is part of. Raises FileNotFoundError where it has none."""
    package = distribution("plotly")
    for name in ("licenses/LICENSE.txt", "LICENSE.txt", "licenses/LICENSE", "LICENSE"):
        text = package.read_text(name)
        if text:
            return text.strip()
    raise FileNotFoundError("the installed plotly package has no licence file")
