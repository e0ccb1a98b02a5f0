"""The page: everything from data is text, nothing is asked of the network, and it keeps its size."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from tests import page_factory
from tests.page_factory import HARM

from weakseg import catalogue, plan
from weakseg.config_text import load
from weakseg.errors import WeaksegError
from weakseg.report import page, page_parts, summary, viewer
from weakseg.report.page_spec import read_page_spec, write_page_spec


class Reader(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self, html):
        super().__init__()
        self.scripts, self.addresses, self.ids, self.text, self.rows = 0, [], [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        facts = dict(attributes)
        self.scripts += tag == "script"
        self.addresses += [facts[name] for name in ("src", "data", "srcset") if name in facts]
        if tag == "link":
            self.addresses.append(facts["href"])
        self.ids += [facts["id"]] if "id" in facts else []
        self.rows += [facts] if tag == "tr" and "data-point" in facts else []

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The plans and the page of results that were made up."""
    directory = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        plans = page_factory.make(directory)
        html = (directory / page.write_page(plans)).read_text()
        said = summary.failed(plans)
    return plans, html, said


@pytest.fixture(scope="module")
def reader(written):
    return Reader(written[1])


def test_harmful_names_are_text(written, reader):
    _, html, _ = written
    assert HARM not in html
    assert reader.scripts == 4  # its own three and the library, which is text until it is run
    # A case in its facts, a note in a study's table, the error of a failure.
    assert reader.text.count("other patients " + HARM) == reader.text.count("no memory " + HARM) == 1
    (volumes,) = re.findall(r'id="volumes">(.*?)</script>', html)
    assert json.loads(volumes)["cases"][0]["case"] == HARM


def test_it_asks_the_network_for_nothing(reader):
    assert reader.addresses
    assert all(address.startswith("data:") for address in reader.addresses)


def test_ids_are_unique(reader):
    assert len(reader.ids) == len(set(reader.ids))


def test_rows_say_what_they_are(reader):
    assert len(reader.rows) == 12
    assert [row["data-source"] for row in reader.rows] == ["phantom"] * 12
    marks = [row["class"] for row in reader.rows]
    # LayerCAM, Grad-CAM, intensity and U-Net at three points; of the upper bound the null is one too.
    assert marks == [*(["", "", "null", "reference"] * 2), *["upper-bound"] * 3, "reference"]
    assert {row["data-supervision"] for row in reader.rows} == {"slice labels", "masks"}
    assert ["hidden" in row for row in reader.rows] == [False] * 4 + [True] * 8


def test_published_rows_are_told_from_ours(written):
    assert len(re.findall("<tr class=published>", written[1])) == 1
    assert "1 published" in written[1]
    assert "<td>0.123</td>" in written[1]


def test_failures_come_with_their_methods(written, reader):
    plans, _, said = written
    run = plans["all"].of_stage("maps")[0]
    assert f"Without it there is nothing of: {', '.join(run.params['methods'])}." in reader.text
    assert f"failed       {run.stage}/{run.label}: no memory" in said


def test_studies_that_were_not_run_say_how(reader):
    assert "not run yet: snakemake refinements" in " ".join(reader.text.split())
    assert "not run yet: snakemake sneak_attack" not in " ".join(reader.text.split())


def test_cards_name_every_method_and_its_source(reader):
    text = " ".join(reader.text.split())
    for facts in (*catalogue.METHODS.values(), *catalogue.REFERENCES.values()):
        assert f"{facts.name} · {facts.fidelity}" in text
        assert facts.citation in text


def test_sources_are_links():
    assert page_parts.cited("A 2016, arXiv 1512.04150; B 2018, 10.1007/978-3-030") == [
        ("A 2016, ", ""),
        ("arXiv 1512.04150", "https://arxiv.org/abs/1512.04150"),
        ("; B 2018, ", ""),
        ("10.1007/978-3-030", "https://doi.org/10.1007/978-3-030"),
    ]


def test_fewer_maps_where_there_is_less_room():
    packed = page_factory.packed()
    everything = page.fit(packed, 10**7)
    assert (len(everything["maps"]), everything["left_out"]) == (8, 0)
    size = len(json.dumps(packed))
    some = page.fit(packed, size // 2)
    assert 0 < len(some["maps"]) < 8
    assert some["maps"] == packed["maps"][: len(some["maps"])]
    assert some["left_out"] == 8 - len(some["maps"])
    assert {case["case"] for case in some["cases"]} == {one["case"] for one in some["maps"]}
    assert len(json.dumps(some)) <= size // 2
    assert page.fit(packed, 100) is None


def test_a_page_that_is_too_large_is_not_written(written, monkeypatch, tmp_path):
    plans, _, _ = written
    monkeypatch.chdir(tmp_path)
    page_factory.make(tmp_path)
    monkeypatch.setattr(page, "MOST_BYTES", 10_000)
    with pytest.raises(WeaksegError, match=r"report.html: over 0 MB .* lower report.overlay_cases"):
        page.write_page(plans)
    assert not plans["all"].page.exists()


@pytest.mark.parametrize("cut", [0.0, 0.1234, 0.5, 0.999, 1.0])
def test_bytes_above_the_cut_are_the_mask(cut):
    relevance = np.concatenate([np.linspace(0, 1, 1001), [cut, np.nextafter(cut, 0), np.nextafter(cut, 1)]])
    stored = viewer.in_bytes(relevance, cut)
    np.testing.assert_array_equal(stored > viewer.cut_level(cut), relevance > cut)
    assert np.abs(stored / 255 - relevance).max() <= 1.5 / 255


def test_spec_is_named_after_what_it_holds(written, monkeypatch, tmp_path):
    plans, _, _ = written
    monkeypatch.chdir(tmp_path)
    path = write_page_spec(plans)
    assert read_page_spec(path) == plans["all"].config
    assert write_page_spec(plans) == path
    assert write_page_spec({"all": plans["all"]}) != path


def test_the_page_plans_what_snakemake_plans(tmp_path, monkeypatch):
    """Also the windows of a CT, whose order is that of the channels."""
    monkeypatch.chdir(tmp_path)
    plans = {"all": plan.build(load({}))}
    again = plan.build(read_page_spec(write_page_spec(plans)))
    assert [*again.runs] == [*plans["all"].runs]
