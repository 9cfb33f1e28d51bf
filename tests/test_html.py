"""The HTML report: one file that fetches nothing, says what the report says, and runs nothing of a dataset's.

Numbers come from the files themselves (json.loads), from Wilson's formula by hand, and from a real browser.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import select
import shutil
import signal
import subprocess
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import matplotlib
import pytest
from command import draw_dataset, rewrite
from PIL import Image

from focalcli import coco
from focalcli.anchors import AnchorSpec
from focalcli.audit import AuditReport, audit
from focalcli.audit.gates import GateResult
from focalcli.render.html import audit_page, wording
from focalcli.render.html.class_plots import split_shares
from focalcli.render.html.problems import find_problems, uncertainty
from focalcli.render.html.thumbnails import MOST_OF_A_FINDING, MOST_OF_A_PAGE, NAMED, SIDE_PX, Album
from focalcli.splits import load_splits

VOID = {"meta", "link", "br", "img", "input", "hr"}
OPTIONAL_END = {"td", "tr"}  # HTML lets them close by themselves
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Document(HTMLParser):
    """The elements of a page with their attributes and own text; a tag that does not match fails."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.cells: list[list[str]] = []  # of every table row
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not [tag for tag in self._open if tag not in OPTIONAL_END]

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), (tag, names)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "tr":
            self.cells.append([])
        elif tag in ("td", "th") and self.cells:
            self.cells[-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        while self._open[-1] in OPTIONAL_END and self._open[-1] != tag:
            self._open.pop()
        assert self._open.pop() == tag, tag

    def handle_data(self, data):
        inside = self._open[-1] if self._open else ""
        if inside not in ("style", "script"):
            self.texts.append(data)
        if {"td", "th"} & set(self._open[-3:]) and self.cells and self.cells[-1]:
            self.cells[-1][-1] += data.strip()

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join("".join(self.texts).split())


def report_of(path: Path, **more) -> tuple[AuditReport, dict[str, coco.Dataset]]:
    splits = load_splits(path, None)
    return audit(splits, AnchorSpec(), min_size=800, max_size=1333, **more), splits


def page_of(path: Path, **more) -> str:
    return audit_page(*report_of(path, **more))


@pytest.fixture
def drawn(tmp_path) -> Path:
    return draw_dataset(tmp_path / "data")


# ------------------------------------------------------------------------------------------------------- one document


def assert_self_contained(text: str) -> Document:
    """Well-formed, ids unique, links inside, everything else a data: URI, and a policy that allows no more."""
    document = Document(text)
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert [name for name, n in Counter(ids).items() if n > 1] == []
    for _, attributes in document.elements:
        for key in ("href", "xlink:href", "src", "srcset", "data", "action", "poster"):
            value = attributes.get(key, "")
            assert not value or value.startswith("data:") or value[1:] in ids, (key, value)
        told = [value for key, value in attributes.items() if key not in ("alt", "title", "aria-label")]
        assert all(name[1:] in ids for name in re.findall(r"url\((.*?)\)", " ".join(told)))
        assert not [name for name in attributes if name.startswith("on")]
    assert "@import" not in text and "url(" not in "".join(re.findall("<style>.*?</style>", text, re.DOTALL))
    scripts = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = next(meta["content"] for meta in document.all("meta") if "http-equiv" in meta)
    assert len(scripts) == 1 and f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    return document


def test_page_is_well_formed_and_fetches_nothing(drawn):
    """Issue 3: no script, font, image or style from elsewhere."""
    document = assert_self_contained(page_of(drawn))
    assert document.all("svg") and document.all("title")[0] == {}
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in document.all("svg"))
    assert all("scope" in header for header in document.all("th"))


def test_numbers_of_the_class_table_are_those_of_the_file(drawn):
    """Counted with json.loads: objects of each split, and pictures of training that hold the class."""
    counts = {}
    for split in ("train", "val"):
        content = json.loads((drawn / f"annotations/{split}.json").read_text())
        names = {category["id"]: category["name"] for category in content["categories"]}
        pairs = [(names[box["category_id"]], box["image_id"]) for box in content["annotations"]]
        counts[split] = Counter(name for name, _ in pairs), Counter(name for name, _ in set(pairs))
    rows = {cells[0]: cells for cells in Document(page_of(drawn)).cells if len(cells) == 13}
    assert rows["class"][:4] == ["class", "images", "train", "val"]
    for name in ("square", "cross"):
        expected = [counts["train"][1][name], counts["train"][0][name], counts["val"][0][name]]
        assert rows[name][1:4] == [str(n) for n in expected]


def test_gates_are_shown_with_their_reason(drawn):
    gates = [GateResult("max-head-tail", 2.0, 5.0, False, "train has 5:1"), GateResult("min-val", 1, 1, True, "fine")]
    text = Document(audit_page(*report_of(drawn), gates)).text
    assert "failed max-head-tail train has 5:1" in text and "passed min-val fine" in text


def test_every_finding_has_its_message_hint_and_rule_page(write_coco):
    """DESIGN: findings carry a code, a place, a next step, and a page."""
    path = write_coco([{}, {"bbox": [1, 1, 0, 5]}])
    text = Document(page_of(path, check_images=False)).text
    assert "F101 box-without-area 1 annotation" in text and "annotation 2 (image 1): box 0 x 5 has no area" in text
    assert "What helps: delete the annotation" in text and "Why it is bad" in text


def test_matplotlib_keeps_the_users_settings(drawn):
    """A page must not change the plots of the program that asked for it."""
    before = dict(matplotlib.rcParams)
    page_of(drawn)
    assert dict(matplotlib.rcParams) == before


# ---------------------------------------------------------------------------------------------------- untrusted names

HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><svg onload=alert(1)>", "{{ 7 * 7 }}",
    "{% raw %}", "$\\frac{1}{2}$", "$\\undefined", "&lt;b&gt;", "`code` <b>", "\u202eevil", "\ud800", "\x00\x07",
    "a\nb", "口罩 マスク", "x" * 300, "_hidden", "url(#x) id=\"y\"", "]]>", "<!--", "%s",
]  # fmt: skip


def test_hostile_names_are_text_and_nothing_else(write_coco, recwarn):
    """Classes, files and splits of any name: the page keeps its one script, and shows the names."""
    categories = [{"id": n, "name": name} for n, name in enumerate(HOSTILE, start=1)]
    images = [
        {"id": n, "file_name": f"{name}.jpg", "width": 640, "height": 480} for n, name in enumerate(HOSTILE, start=1)
    ]
    boxes = [{"image_id": n, "category_id": n, "bbox": [5, 5, 60, 50]} for n in range(1, len(HOSTILE) + 1)]
    boxes += [{"image_id": 1, "category_id": n, "bbox": [5, 5, 60, 50]} for n in range(1, len(HOSTILE) + 1)] * 2
    write_coco(boxes, images, categories, name="data/annotations/train.json")
    path = write_coco(boxes[:9], images, categories, name="data/annotations/val<b>$x$.json").parents[1]
    document = assert_self_contained(page_of(path))
    for shown in (
        "<script>alert(1)</script>", "$\\frac{1}{2}$", "$\\undefined", "{{ 7 * 7 }}", "&lt;b&gt;", "\\u202eevil",
        "\\ud800", "\\x00\\x07", "a\\nb", "口罩 マスク", "x" * 300, "val<b>$x$",
    ):  # fmt: skip
        assert shown in document.text
    labels = " ".join(document.texts)
    assert "$\\frac{1}{2}$" in labels and not document.all("b<") and "\u202e" not in labels
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_hostile_messages_of_findings_are_text(drawn):
    report, splits = report_of_broken(drawn)
    finding = replace(report.findings[0], message="<img src=x onerror=1>`a`", hint="</p><script>1</script>")
    document = assert_self_contained(audit_page(replace(report, findings=(finding,)), splits))
    assert "<img src=x onerror=1>" in document.text and "</p><script>1</script>" in document.text


def report_of_broken(folder: Path) -> tuple[AuditReport, dict[str, coco.Dataset]]:
    """After the first box of train1.jpg was drawn twice: a finding that names picture and box."""

    def double(content):
        content["annotations"].append({**content["annotations"][0], "id": 900})

    rewrite(folder / "annotations/train.json", double)
    report, splits = report_of(folder, check_images=False)
    return replace(report, findings=tuple(each for each in report.findings if each.code == "F104")), splits


# --------------------------------------------------------------------------------------------------------- thumbnails


def thumbnails(folder: Path, **changes) -> list[Image.Image]:
    """Those of the finding about train1.jpg, after its first box was drawn twice."""
    report, splits = report_of_broken(folder)
    made = Album(splits).of(replace(report.findings[0], **changes))
    return [Image.open(io.BytesIO(base64.b64decode(each.uri.partition(",")[2]))) for each in made]


def close_to(pixel, colour) -> bool:
    return all(abs(a - b) < 60 for a, b in zip(pixel, colour, strict=True))


def test_thumbnail_shows_the_picture_with_the_box_marked(drawn):
    """The doubled box starts at 9 px of 96 and is 20 px high, large enough to be seen in the whole picture."""
    (picture,) = thumbnails(drawn)
    assert picture.size == (SIDE_PX, round(SIDE_PX * 64 / 96)) and picture.format == "JPEG"
    assert close_to(picture.getpixel((9 * SIDE_PX // 96 + 1, 30 * SIDE_PX // 96)), NAMED)


def test_thumbnail_of_a_tiny_box_shows_its_surroundings(drawn):
    """A box of 20 px in 2,000 would be 3 px of a thumbnail; here it is a quarter of it."""
    rewrite(drawn / "annotations/train.json", lambda content: content["images"][0].update(width=2000, height=1000))
    Image.new("RGB", (2000, 1000)).save(drawn / "images/train/train1.jpg")
    (picture,) = thumbnails(drawn)
    marked = [x for x in range(picture.width) if close_to(picture.getpixel((x, picture.height // 2)), NAMED)]
    assert max(marked) - min(marked) > SIDE_PX / 5


def test_thumbnail_of_a_turned_picture_is_in_the_frame_of_its_boxes(drawn):
    """TRAPS 31: stored 64 x 96 with EXIF orientation 6, the file says 96 x 64."""
    path = drawn / "images/train/train1.jpg"
    with Image.open(path) as picture:
        upright = picture.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.rotate(90, expand=True).save(path, exif=exif, quality=95)
    (shown,) = thumbnails(drawn)
    assert shown.size == (SIDE_PX, round(SIDE_PX * 64 / 96))
    assert close_to(shown.getpixel((19 * SIDE_PX // 96, 30 * SIDE_PX // 96)), (220, 40, 40))


@pytest.mark.parametrize("mode", ["I;16", "RGBA", "P", "CMYK", "L", "1"])
def test_thumbnail_of_any_mode(drawn, mode):
    """TRAPS 32: 16 bits a pixel would saturate, and JPEG knows no alpha."""
    picture = Image.new("I;16", (96, 64), 20_000) if mode == "I;16" else Image.new(mode, (96, 64))
    picture.save(drawn / "images/train/train1.jpg", "TIFF")
    (shown,) = thumbnails(drawn)
    grey = 20_000 // 256 if mode == "I;16" else shown.getpixel((310, 200))[0]
    assert close_to(shown.getpixel((310, 200)), (grey, grey, grey))


@pytest.mark.parametrize("break_it", ["missing", "not a picture", "cut short", "empty", "folder", "too large"])
def test_broken_picture_has_no_thumbnail(drawn, break_it, monkeypatch):
    path = drawn / "images/train/train1.jpg"
    content = path.read_bytes()
    if break_it == "too large":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # twice as many are Pillow's DecompressionBombError
    else:
        path.unlink()
    if break_it == "folder":
        path.mkdir()
    elif break_it not in ("missing", "too large"):
        path.write_bytes({"not a picture": b"x" * 900, "cut short": content[:300], "empty": b""}[break_it])
    assert thumbnails(drawn) == []


@pytest.mark.parametrize("name", ["../../secret.jpg", "link.jpg", "{absolute}", "file:///etc/passwd"])
def test_nothing_outside_the_image_root_is_opened(drawn, monkeypatch, name):
    """TRAPS 12: names that climb out, links that lead out, absolute paths and URLs."""
    secret = drawn / "secret.jpg"
    Image.new("RGB", (96, 64)).save(secret)
    (drawn / "images/train/link.jpg").symlink_to(secret)
    named = name.format(absolute=secret)
    rewrite(drawn / "annotations/train.json", lambda content: content["images"][0].update(file_name=named))
    opened: list[Path] = []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda file, *rest: opened.append(file) or original(file, *rest))
    assert len(thumbnails(drawn, image_ids=(1, 2))) == 1  # the second is inside
    root = (drawn / "images/train").resolve()
    paths = [Path(file) for file in opened if isinstance(file, str | Path)]
    assert paths and all(path.resolve().is_relative_to(root) for path in paths)


def test_thumbnails_are_few(drawn):
    """A page stays small: so many of a finding, so many in all."""
    report, splits = report_of_broken(drawn)
    finding = replace(report.findings[0], image_ids=(1, 2, 3, 4, 5))
    album = Album(splits)
    assert len(album.of(finding)) == MOST_OF_A_FINDING
    assert sum(len(album.of(finding)) for _ in range(20)) == MOST_OF_A_PAGE - MOST_OF_A_FINDING


# ----------------------------------------------------------------------------------------------------- odd datasets


def test_page_of_1203_classes_is_small_and_folds_its_tables(write_coco):
    """LVIS v1 has 1,203 classes (Gupta et al. 2019)."""
    categories = [{"id": n, "name": f"a class of some length {n}"} for n in range(1203)]
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(400)]
    boxes = [
        {"image_id": n % 400, "category_id": n % 1203, "bbox": [5, 5, 20 + n % 300, 20 + n % 200]} for n in range(2406)
    ]
    text = page_of(write_coco(boxes, images, categories), check_images=False)
    document = Document(text)
    assert len(text.encode()) < 3_000_000
    assert {table["data-most"] for table in document.all("table") if "data-most" in table} == {"40"}
    # classes and their anchors
    assert len([cells for cells in document.cells if len(cells) == 12]) == 2 * (1203 + 1)


@pytest.mark.parametrize(
    ("boxes", "categories", "images"),
    [
        pytest.param([{}], [{"id": 1, "name": "only"}], None, id="one class, one box"),
        pytest.param([], None, None, id="no objects"),
        pytest.param([{"iscrowd": 1}], None, None, id="only a crowd"),
        pytest.param([{}, {"bbox": [0, 0, 640, 2]}], None, None, id="a box of 1:320"),
        pytest.param([{}], None, [{"id": 1, "file_name": "1.jpg"}], id="pictures of unknown size"),
        pytest.param([{"bbox": [0, 0, 0.01, 0.01]}], None, None, id="a box of almost nothing"),
        pytest.param(
            [{"bbox": [0, 0, 90000, 90000]}],
            None,
            [{"id": 1, "file_name": "1.jpg", "width": 90000, "height": 90000}],
            id="a picture of 90,000 px",
        ),
    ],
)
def test_odd_datasets_have_a_page(write_coco, boxes, categories, images):
    """Whatever is undefined is left out or shown as a dash, never as NaN or None."""
    text = assert_self_contained(page_of(write_coco(boxes, images, categories), check_images=False)).text
    assert not re.search(r"\b(nan|inf|None)\b", text)


def test_shares_of_a_near_even_dataset_have_ticks(shared):
    """deeppcb's classes have 13 to 20 % each: between two powers of ten."""
    report, _ = report_of(shared / "deeppcb_600", check_images=False)
    assert re.search(r">10 %<.*>20 %<", split_shares(report, report.split("train")), re.DOTALL)


def test_split_without_objects_has_a_page(write_coco):
    write_coco(name="d/annotations/train.json")
    folder = write_coco([], name="d/annotations/val.json").parents[1]
    text = assert_self_contained(page_of(folder, check_images=False)).text
    assert "val holds 0 objects of" in text and "Nothing to compare" in text


# ------------------------------------------------------------------------------------------------- wording and verdict


def test_numbers_read_as_people_write_them():
    """A share that is nearly none or nearly all is not shown as none or all; counts in plots are short."""
    shares = (0, 0.0004, 0.5, 0.9996, 1, None)
    assert [wording.percent(share) for share in shares] == ["0.0", "<0.1", "50.0", ">99.9", "100.0", "–"]
    counts = (0, 999, 1000, 9960, 12_345, 999_999, 1_500_000, 4e9)
    assert [wording.brief(n) for n in counts] == ["0", "999", "1k", "10k", "12k", "1M", "1.5M", "4G"]
    assert wording.listed(["a"]) == "a" and wording.listed(["a", "b"]) == "a and b"
    assert wording.listed(["a", "b", "c", "d", "e"], 3) == "a, b, c and 2 more"


def test_labels_fit_and_wide_characters_count_twice():
    assert wording.label("x" * 22) == "x" * 22 and wording.label("x" * 23) == "x" * 21 + "…"
    assert wording.label("口" * 11) == "口" * 11 and wording.label("口" * 12) == "口" * 10 + "…"


def test_uncertainty_is_half_of_wilsons_interval():
    """By hand: 5 of 10 gives [0.2366, 0.7634], 50 of 100 gives [0.4038, 0.5962] (Wilson 1927); none tells nothing."""
    assert uncertainty(10) == pytest.approx(0.2634, abs=2e-4)
    assert uncertainty(100) == pytest.approx(0.0962, abs=2e-4)
    assert uncertainty(0) == pytest.approx(0.5)


def test_face_masks_three_problems_are_on_its_page(shared):
    """Issue 3: one who never saw focal can name them. Counts by json.loads."""
    content = {
        split: json.loads((shared / f"face_mask/annotations/{split}.json").read_text()) for split in ("train", "val")
    }
    names = {category["id"]: category["name"] for category in content["train"]["categories"]}
    train, val = (Counter(names[box["category_id"]] for box in content[s]["annotations"]) for s in ("train", "val"))
    (head, most), *_, (tail, least) = train.most_common()
    report, splits = report_of(shared / "face_mask")
    text = Document(audit_page(report, splits)).text
    verdict = text[text.index("The three main problems") : text.index("classes with objects")]
    assert f"The classes are uneven, {most / least:.0f} to 1" in verdict
    assert f"{head} has {most:,} of the {train.total():,} objects" in verdict and f"{tail} only {least}" in verdict
    assert f"val holds only {val[tail]} objects of {tail}" in verdict
    assert f"{report.split('train').anchors.positives:,} anchors match an object" in verdict


def test_problems_come_worst_first_and_an_even_dataset_has_no_class_problem(shared):
    """deeppcb is near balance (its README calls it a control): only the background stands out."""
    (only,) = find_problems(report_of(shared / "deeppcb_600", check_images=False)[0])
    assert only.title.startswith("Background")
    weights = [each.weight for each in find_problems(report_of(shared / "json/taco_official.json")[0])]
    assert weights == sorted(weights, reverse=True) and len(weights) > 3


# --------------------------------------------------------------------------------------------------------- a browser


class Browser:
    """Headless Chromium, spoken to in DevTools' protocol over a pipe."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive, self._buffer, self._number = send, receive, b"", 0
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Log", "Runtime", "Page", "Network"):
            self.call(f"{domain}.enable")

    session = None

    def call(self, method: str, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        os.write(
            self._send, json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0"
        )
        return self._until(lambda reply: reply.get("id") == self._number)["result"]

    def _until(self, wanted):
        while True:
            while b"\0" not in self._buffer:
                assert select.select([self._receive], [], [], 60)[0], "Chromium says nothing"
                part = os.read(self._receive, 1 << 16)
                assert part, "Chromium ended"
                self._buffer += part
            text, _, self._buffer = self._buffer.partition(b"\0")
            message = json.loads(text)
            if "method" in message:
                self.events.append(message)
            if wanted(message):
                return message

    def open(self, path: Path) -> None:
        self.call("Page.navigate", url="file://" + quote(str(path)))
        if not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def run(self, script: str):
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")


@contextmanager
def browser(tmp_path: Path):
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
        f"--user-data-dir={tmp_path / 'profile'}", "about:blank",
    ]  # fmt: skip
    pipes = *os.pipe(), *os.pipe()
    their_in, our_out, our_in, their_out = pipes
    # Chromium reads from 3 and writes to 4, whatever numbers the pipes have here
    shell = ["bash", "-c", f'exec 13<&{their_in} 14>&{their_out}; exec "$@" 3<&13 4>&14', "bash", *command]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(shell, pass_fds=(their_in, their_out), start_new_session=True, **quiet)
    try:
        yield Browser(our_out, our_in)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for number in pipes:
            os.close(number)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_browser_shows_the_page_without_a_complaint_and_sorts(tmp_path, drawn):
    """No console message, nothing fetched but the file; headers sort, the theme turns, long tables unfold."""
    path = tmp_path / "report.html"
    path.write_text(audit_page(*report_of_broken(drawn)), encoding="utf-8")
    with browser(tmp_path) as page:
        page.open(path)
        first = "document.querySelector('tbody th').textContent"
        button = "document.querySelectorAll('th[data-kind] button')"
        assert page.run(first) == "square"
        page.run(f"{button}[0].click(); {button}[0].click()")  # by name, upwards and downwards
        page.run(f"{button}[2].click(); {button}[2].click()")  # by count, downwards and upwards
        assert page.run(first) == "cross"
        assert page.run("document.querySelectorAll('th[data-kind]')[2].getAttribute('aria-sort')") == "ascending"
        before = page.run("getComputedStyle(document.body).backgroundColor")
        page.run("document.getElementById('theme').click()")
        assert page.run("getComputedStyle(document.body).backgroundColor") != before
        assert page.run("document.images[0].naturalWidth") == SIDE_PX
        assert page.run("document.documentElement.scrollWidth <= innerWidth") is True
        asked = [
            event["params"]["request"]["url"] for event in page.events if event["method"] == "Network.requestWillBeSent"
        ]
    complaints = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert [event for event in page.events if event["method"] in complaints] == []
    assert [url for url in asked if not url.startswith(("data:", path.as_uri(), "about:"))] == []
