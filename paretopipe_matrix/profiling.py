"""`profile`: block-wise times on every host, and the bytes at every cut."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from paretopipe_matrix.context import Context, Descriptions, open_testbed, worded
from paretopipe_matrix.errors import UserError, WriteError
from paretopipe_matrix.plan import requests
from paretopipe_matrix.tables import print_table
from paretopipe_matrix.testbed import CellError, JsonObject, ModelDescription, ModelRequest


def profile_models(context: Context, repeats: int, out: Path | None) -> None:
    """Profile what the context's spec names, print it, and write it as JSON to `out`."""
    profiled: list[JsonObject] = []
    with open_testbed(context, None) as testbed:
        describe = Descriptions(testbed)
        for settings in context.loaded.spec.entries():
            for pipeline in settings.pipelines:
                for request in requests(settings, context.loaded.spec.seed):
                    description = describe(request, pipeline)
                    try:
                        blocks = testbed.profile_blocks(request, pipeline, repeats)
                    except CellError as error:
                        raise UserError(f"model {request.model}: {worded(error)}") from error
                    _print(request, pipeline, blocks, description)
                    profiled.append(
                        {
                            **asdict(request),
                            "pipeline": pipeline,
                            "graph_hash": description.graph_hash,
                            "weight_hash": description.weight_hash,
                            "repeats": repeats,
                            "engines": dict(description.engines),
                            "blocks": blocks,
                            "cuts": [asdict(cut) for cut in description.cuts],
                        }
                    )
        facts = testbed.facts()
    if out is not None:
        document = {"schema": 1, "testbed": context.testbed_name, "hosts": facts, "models": profiled}
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
        except OSError as error:
            raise WriteError(f"{out}: cannot write the profile: {error.strerror}") from error
        click.echo(str(out), err=True)


def _print(
    request: ModelRequest, pipeline: str, blocks: Mapping[str, Sequence[JsonObject]], description: ModelDescription
) -> None:
    hosts, cuts = list(blocks), description.cuts
    click.echo(f"{request.model}, batch {request.batch_size}, {request.engine}, pipeline {pipeline}: time per block")
    if request.engine == "best":
        click.echo(", ".join(f"{host}: {engine['picked']}" for host, engine in description.engines.items()))
    by_host = [blocks[host] for host in hosts]
    rows: list[tuple[object, ...]] = [
        (
            same[0]["name"],
            *(f"{row['exec_s'] * 1e3:.3f}" for row in same),
            f"{same[0]['out_bytes'] / 1e3:.1f}",
            same[0]["parameters"],
        )
        for same in zip(*by_host, strict=True)
    ]
    totals = [f"{sum(row['exec_s'] for row in rows_of) * 1e3:.3f}" for rows_of in by_host]
    rows.append(("sum", *totals, "", sum(row["parameters"] for row in by_host[0])))
    times = [f"{host} ms" for host in hosts]
    print_table(("block", *times, "out kB", "parameters"), rows, right=(*times, "out kB", "parameters"))
    click.echo(f"\n{request.granularity} cuts: what crosses the link per batch")
    print_table(
        ("cut", "split", "name", "kB"),
        [
            (cut.index, cut.paper_name, cut.name, "nothing" if cut is cuts[-1] else f"{cut.nbytes / 1e3:.1f}")
            for cut in cuts
        ],
        right=("cut", "kB"),
    )
    click.echo()
