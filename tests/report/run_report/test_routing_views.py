"""Views of routing say what the tables say: from memory and from files alike, and what is highest is called so."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_ds.analysis.routing_analysis import RoutingAnalysis, analyse_routing
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import load_translator
from smoe_ds.report.routing import routing_page, routing_tables
from smoe_ds.report.run_report.contents import RoutingNumbers
from smoe_ds.report.run_report.html_table import heat_table
from smoe_ds.report.run_report.read import TABLES, read_routing, routing_numbers
from smoe_ds.report.run_report.routing_views import common_ends, findings, routing_views
from tests.helpers.random_run import random_run


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> RoutingAnalysis:
    run = random_run(tmp_path_factory.mktemp("run"), corpus, moe={"strata": [2, 2, 2]}, model={"encoder_layers": 4})
    return analyse_routing(load_translator(run, device="cpu"), corpus, "valid", ["eng-nso", "cat-eng", "eng-cat"], 4)


@pytest.fixture(scope="module")
def numbers(analysis: RoutingAnalysis) -> RoutingNumbers:
    tables = {name: routing_tables(analysis)[name].as_json() for name in TABLES}
    return routing_numbers(tables, analysis.as_json(), 1)


def test_files_say_the_same(analysis: RoutingAnalysis, numbers: RoutingNumbers, tmp_path: Path) -> None:
    import json

    for name, table in routing_tables(analysis).items():
        (tmp_path / f"{name}.csv").write_text(table.csv(), encoding="utf-8")
    (tmp_path / "analysis.json").write_text(json.dumps({"step": 1, **analysis.as_json()}), encoding="utf-8")
    read = read_routing(tmp_path)
    assert read is not None and read == numbers
    ends = common_ends([numbers])
    assert routing_views(read, ends) == routing_views(numbers, ends)
    assert read_routing(tmp_path / "nowhere") is None


def test_findings(analysis: RoutingAnalysis, numbers: RoutingNumbers) -> None:
    text = " ".join(findings(numbers))
    total = analysis.capacity("encoder", "all", "mean")["all"]
    assert f"In the encoder, a token passes {total:.2f} of 3 strata on average." in text
    blocks = {name: analysis.capacity("encoder", "all", name)["all"] for name in numbers.blocks("encoder")}
    high, low = max(blocks, key=lambda x: blocks[x]), min(blocks, key=lambda x: blocks[x])
    assert f"Its block {high} takes the most ({blocks[high]:.2f}), {low} the least ({blocks[low]:.2f})." in text
    spread = {}
    for block in blocks:
        of = analysis.capacity("encoder", "language", block)
        spread[block] = max(of.values()) - min(of.values())
    assert f"Languages differ the most in {max(spread, key=lambda x: spread[x])}" in text
    for side in ("encoder", "decoder"):
        bands = list(numbers.capacity(side, "frequency").items())
        ((first, frequent), (last, rare)) = bands[0], bands[-1]
        (test,) = (one for one in analysis.tests if (one.side, one.by) == (side, "frequency"))
        sentence = f"Frequent pieces (ranks {first}) take {frequent:.2f}, rare ones (ranks {last}) {rare:.2f}; permuted"
        assert f"{sentence} sentences show as much in {test.p:.1%} of draws" in text
    dead = [one for one in analysis.loads if one.direction == "all" and one.dead]
    assert text.count("no token of this text chose") == len(dead)


def test_charts_and_tables(analysis: RoutingAnalysis, numbers: RoutingNumbers) -> None:
    views = routing_views(numbers, common_ends([numbers]), ep_size=2)
    charts = dict(views.bars)
    page = routing_page(analysis).text()
    for value in analysis.capacity("decoder", "direction", "mean").values():
        assert f">{value:.2f}<" in charts["by direction, most training text first"]
    (positions,) = (part for part in page.split("\n\n") if part.startswith("position"))
    for line in positions.splitlines()[2:]:
        name, *values = line.split()
        assert f">{name}<" in charts["by position in the sentence"]
        assert all(f">{float(value):.2f}<" in charts["by position in the sentence"] for value in values)
    shares = {(one.block, one.language): one.share_E for one in analysis.shares}
    assert len(views.experts) == len(numbers.blocks("encoder") + numbers.blocks("decoder"))
    for table in views.experts:
        block = table.title.split(":")[0]
        assert table.groups == (("stratum 0", 2), ("stratum 1", 2), ("stratum 2", 2))
        for language, cells in table.rows.items():
            expected = [f"{100 * share:.1f}" for share in shares[block, language]]
            assert [cell and cell.text for cell in cells] == expected
    assert views.placement is not None
    for block, cells in views.placement.rows.items():
        expected = [f"{100 * shares[block, 'all'][rank::2].sum():.1f}" for rank in (0, 1)]
        assert [cell and cell.text for cell in cells] == expected


def test_colours_go_from_the_lowest_to_the_highest() -> None:
    table = heat_table("t", "c", ["a", "b"], {"x": [1.0, None], "y": [2.0, 4.0]}, ".1f")
    assert [[cell and (cell.text, cell.level) for cell in row] for row in table.rows.values()] == [
        [("1.0", 0), None],
        [("2.0", 2), ("4.0", 6)],
    ]
    assert heat_table("t", "c", ["a"], {"x": [3.0]}, ".0f").rows["x"][0]
