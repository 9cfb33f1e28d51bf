"""examples/pull-request.yml: its `run:` steps, taken out of the YAML, do what docs/ci.md says on good and bad input.

GitHub runs a step of `shell: bash` as `bash --noprofile --norc -eo pipefail FILE`
(https://docs.github.com/actions/reference/workflow-syntax-for-github-actions), and after a failure only the steps whose
`if` says so.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from command import ROOT, environment, focal, rewrite

WORKFLOW = ROOT / "examples/pull-request.yml"
REPORTS = "Write the reports"


@dataclass(frozen=True)
class Step:
    name: str
    code: int
    stdout: str
    stderr: str


def job() -> dict:
    (only,) = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values()
    return only


def run_steps(folder: Path, *left_out: str) -> dict[str, Step]:
    """Every step that GitHub would run there, by name, but for the installation of what is being tested."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    (bin_folder / "focal").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m focalcli "$@"\n')
    (bin_folder / "focal").chmod(0o755)
    env = environment(GITHUB_STEP_SUMMARY=str(folder / "summary.md"))
    env |= yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["env"]
    env["PATH"] = f"{bin_folder}:{env['PATH']}"
    done: dict[str, Step] = {}
    for step in job()["steps"]:
        if "run" not in step or step["name"] in ("Install", *left_out):
            continue
        if any(earlier.code for earlier in done.values()) and "!cancelled()" not in step.get("if", ""):
            continue
        script = folder / "script.sh"
        script.write_text(step["run"])
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        done[step["name"]] = Step(step["name"], ended.returncode, ended.stdout, ended.stderr)
    return done


@pytest.fixture
def checkout(tmp_path) -> Path:
    """The sample data, detections of every object of its val split, and what was evaluated on the main branch."""
    (tmp_path / "data").mkdir()
    for name in ("annotations", "images"):
        (tmp_path / "data" / name).symlink_to(ROOT / "sample_data" / name)
    truth = json.loads((ROOT / "sample_data/annotations/val.json").read_text())
    results = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in truth["annotations"]
    ]
    (tmp_path / "detections.json").write_text(json.dumps(results))
    focal("eval", tmp_path / "detections.json", tmp_path / "data", "--rounds", 0, "--out", tmp_path / "baseline")
    (tmp_path / "detections.json").rename(tmp_path / "baseline/predictions.coco.json")
    (tmp_path / "detections.json").write_text(json.dumps(results))
    return tmp_path


def own_data(checkout: Path) -> Path:
    """The annotation file of val, to change."""
    (checkout / "data/annotations").unlink()
    (checkout / "data/annotations").mkdir()
    for split in ("train", "val"):
        text = (ROOT / f"sample_data/annotations/{split}.json").read_text()
        (checkout / f"data/annotations/{split}.json").write_text(text)
    return checkout / "data/annotations/val.json"


def test_a_good_pull_request_passes_and_leaves_its_reports(checkout):
    done = run_steps(checkout)
    assert {name: step.code for name, step in done.items()} == dict.fromkeys(done, 0), done
    assert len(done) == 4 and "::error" not in "".join(step.stdout for step in done.values())
    summary = (checkout / "summary.md").read_text()
    assert summary.index("### focal audit") < summary.index("### focal eval") < summary.index("### focal compare")
    assert "all gates passed" in summary and "0 of 5 classes; the mean: +0.0, not real" in summary
    assert (checkout / "audit.html").is_file() and (checkout / "eval/metrics.json").is_file()
    assert (checkout / "eval/report.html").read_text().startswith("<!doctype html>")


def test_a_detector_that_lost_a_class_fails_with_an_annotation_and_the_rest_still_runs(checkout):
    truth = json.loads((ROOT / "sample_data/annotations/val.json").read_text())
    (crack,) = [category["id"] for category in truth["categories"] if category["name"] == "crack"]
    rewrite(
        checkout / "detections.json", lambda c: c.__setitem__(slice(None), [r for r in c if r["category_id"] != crack])
    )
    done = run_steps(checkout, REPORTS)
    assert {name: step.code for name, step in done.items() if step.code} == {"Evaluate the detector": 1}
    errors = [line for line in done["Evaluate the detector"].stdout.splitlines() if line.startswith("::error ")]
    assert [re.search("title=(.*?)::", line)[1] for line in errors] == [
        "--min-class *=0.1", "--min-class crack%3AAP50=0.3", "--max-drop 0.05",
    ]  # fmt: skip
    assert "'crack' by 1.000 (1.000 to 0.000)" in errors[2]
    summary = (checkout / "summary.md").read_text()
    assert "3 gates of 4 failed" in summary and "crack -100.0" in summary and "worse" in summary


def test_a_dataset_with_a_finding_fails_its_step_and_the_detector_is_still_evaluated(checkout):
    """The file differs from the one of the baseline, so the comparison is refused: its figures would not be paired."""
    rewrite(own_data(checkout), lambda c: c["annotations"][0].update(category_id=99))
    done = run_steps(checkout, REPORTS)
    assert (
        done["Audit the dataset"].code == 1
        and "::error file=data/annotations/val.json" in done["Audit the dataset"].stdout
    )
    assert done["Evaluate the detector"].code in (0, 1)
    assert "::warning title=focal eval::baseline" in done["Evaluate the detector"].stdout
    assert (
        done["Compare with the main branch"].code == 2
        and "the two differ" in done["Compare with the main branch"].stderr
    )


@pytest.mark.parametrize("content", ["", '{"images": []}'])
def test_broken_detections_are_exit_2_with_a_reason_and_no_annotation_of_success(checkout, content):
    (checkout / "detections.json").write_text(content)
    step = run_steps(checkout, "Audit the dataset", "Compare with the main branch", REPORTS)["Evaluate the detector"]
    assert step.code == 2 and step.stdout == "" and "error: detections.json: " in step.stderr
    assert "Traceback" not in step.stderr


def test_the_page_that_explains_it_shows_the_same_commands():
    """docs/ci.md names every option that the workflow uses."""
    page = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    for step in job()["steps"]:
        for option in re.findall(r"--[a-z-]+", step.get("run", "")):
            assert option in page, option
