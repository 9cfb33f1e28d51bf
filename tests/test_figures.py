"""The figures beside counts and anchors: against pycocotools, numpy, brute force and numbers worked by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_audit import audited

from focalcli import coco
from focalcli.anchors import AnchorSpec
from focalcli.audit import RULES, TERMS, audit, imbalance
from focalcli.audit.figures import AREA_EDGES, ASPECT_EDGES, HEAT_CELLS, MOST_TOGETHER, PERCENTILES, SIDE_EDGES
from focalcli.errors import FocalError

SQUARE = [{"id": 1, "file_name": "1.jpg", "width": 320, "height": 320}]  # audited() leaves it as it is
IN_TMP = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def only_class(path: Any) -> Any:
    return audited(path).splits[0].classes[0]


# ------------------------------------------------------------------------------------------------------------- classes


@pytest.mark.parametrize(("counts", "bits"), [([1, 1, 2], 1.5), ([9] * 8, 3.0), ([5, 0], 0.0), ([0], None)])
def test_entropy_is_in_bits(counts, bits):
    """Shares 1/4, 1/4, 1/2: 2/4 + 2/4 + 1/2 bits."""
    assert imbalance.entropy(np.array(counts)) == (None if bits is None else pytest.approx(bits))


def test_effective_number_is_cuis():
    """Cui et al. 2019, eq. 2 with beta 0.999: 1 + 0.999 for two objects, 1000 (1 - 0.999^1000) = 632.30 for 1000."""
    assert imbalance.effective_numbers(np.array([0, 1, 2, 1000, 10**6])) == pytest.approx(
        [0, 1, 1.999, 632.305, 1000], abs=1e-3
    )


# --------------------------------------------------------------------------------------------------------------- sizes


def test_sizes_in_file_are_those_of_pycocotools(shared):
    """COCO's own example: getAnnIds counts strictly between two areas, crowds left out."""
    cocos = pytest.importorskip("pycocotools.coco")
    path = shared / "json" / "instances_val2014_100.json"
    reference = cocos.COCO(str(path))
    for row in audited(path).splits[0].classes:
        for n, low, high in zip(row.scale.in_file, (0, *AREA_EDGES), (*AREA_EDGES, 1e10), strict=True):
            assert n == len(reference.getAnnIds(catIds=[row.category_id], areaRng=[low, high], iscrowd=False))


def test_area_of_the_edges_is_medium(write_coco):
    """https://cocodataset.org/#detection-eval: small is below 32^2, large above 96^2; `area` decides, not the box."""
    boxes = [{"area": area} for area in (1023.9, 1024, 9216, 9216.1)]
    assert only_class(write_coco(boxes)).scale.in_file == (1, 2, 1)


def test_size_at_network_size_follows_the_resize(write_coco):
    """640 x 480 at a short side of 320 shrinks by 2/3: 48 px become 32 (medium), 47 small, 144 become 96 (medium)."""
    boxes = [{"bbox": [0, 0, side, side], "area": 1} for side in (47, 48, 144, 145)]
    images = [{"id": 1, "file_name": "1.jpg", "width": 480, "height": 480}]
    scale = only_class(write_coco(boxes, images)).scale
    assert scale.at_network == (1, 2, 1) and scale.in_file == (4, 0, 0)
    assert scale.side_at_network == pytest.approx([side * 2 / 3 for side in scale.side])


@IN_TMP
@given(st.lists(st.tuples(st.integers(1, 320), st.integers(1, 320)), min_size=1, max_size=30))
def test_percentiles_and_bins_are_numpys(write_coco, sizes):
    """np.percentile and np.histogram on sqrt(w h) and h / w."""
    scale = only_class(write_coco([{"bbox": [0, 0, w, h]} for w, h in sizes], SQUARE)).scale
    w, h = np.array(sizes, dtype=float).T
    for values, percentiles, bins, edges in (
        (np.sqrt(w * h), scale.side_at_network, scale.sides, SIDE_EDGES),
        (h / w, scale.aspect, scale.aspects, ASPECT_EDGES),
    ):
        assert percentiles == pytest.approx(np.percentile(values, PERCENTILES))
        assert bins == tuple(np.histogram(values, edges)[0])
    assert scale.side == pytest.approx(scale.side_at_network)


def test_box_is_clipped_to_its_picture(write_coco):
    """Half of it lies outside: 40 x 80 remain, as training sees it."""
    scale = only_class(write_coco([{"bbox": [-40, 0, 80, 80]}], SQUARE)).scale
    assert scale.side[2] == pytest.approx(3200**0.5) and scale.aspect[2] == 2


def test_picture_of_unknown_size_counts_in_the_file_only(write_coco):
    """There is no network size, and no border."""
    scale = only_class(write_coco([{}], [{"id": 1, "file_name": "1.jpg", "width": 0, "height": 0}])).scale
    assert scale.in_file == (0, 1, 0) and scale.at_network == (0, 0, 0) and scale.side is not None
    assert scale.side_at_network is None and scale.sides == () and scale.at_border == 0


def test_class_without_objects_has_no_sizes(write_coco):
    """None and empty, not NaN; its crowd is no object."""
    scale = audited(write_coco([{}, {"category_id": 2, "iscrowd": 1}])).splits[0].classes[1].scale
    assert scale.side is scale.side_at_network is scale.aspect is None
    assert scale.in_file == (0, 0, 0) and scale.sides == scale.aspects == () and scale.at_border == 0


# -------------------------------------------------------------------------------------------------------------- places


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ([1, 100, 50, 50], True),
        ([1.1, 100, 50, 50], False),
        ([100, 269, 50, 50], True),
        ([100, 268.9, 50, 50], False),
        ([300, 100, 90, 50], True),
    ],
)
def test_border_is_one_pixel_wide(write_coco, box, cut):
    """Of a picture of 320 x 320; a box beyond it ends there too."""
    split = audited(write_coco([{"bbox": box}], SQUARE)).splits[0]
    assert (split.layout.at_border, split.classes[0].scale.at_border) == (cut, cut)


@IN_TMP
@given(st.lists(st.tuples(*[st.integers(1, 300)] * 4), max_size=12))
def test_heat_counts_the_boxes_over_each_cells_centre(write_coco, boxes):
    """Asked of every box and centre; a picture of 300 x 600 stretched to a square."""
    inside = [[min(x, 299), min(y, 299), min(w, 300 - min(x, 299)), h] for x, y, w, h in boxes]
    images = [{"id": 1, "file_name": "1.jpg", "width": 300, "height": 600}]
    heat = audited(write_coco([{"bbox": box} for box in inside], images)).splits[0].layout.heat
    centre = (np.arange(HEAT_CELLS) + 0.5) / HEAT_CELLS
    expected = np.zeros((HEAT_CELLS, HEAT_CELLS), dtype=int)
    for x, y, w, h in inside:
        across, down = (x / 300 <= centre) & (centre < (x + w) / 300), (y / 600 <= centre) & (centre < (y + h) / 600)
        expected += down[:, None] & across
    assert (np.array(heat) == expected).all()


@pytest.mark.filterwarnings("error")
def test_heat_leaves_out_boxes_beyond_all_measure(write_coco):
    """In a picture of unknown size a box can be of any: 24 cells times 1e308 is no number."""
    image = {"id": 1, "file_name": "a.jpg"}
    (split,) = audited(write_coco([{"bbox": [1e308, 0, 1e300, 1e-300]}], [image])).splits
    assert split.n_objects == 1 and np.sum(split.layout.heat) == 0


def test_objects_per_image_counts_empty_pictures_too(write_coco):
    """Two pictures, one with three cats, and a crowd that is none."""
    boxes = [{}, {}, {"category_id": 2}, {"image_id": 2, "iscrowd": 1}]
    layout = audited(write_coco(boxes)).splits[0].layout
    assert layout.objects_per_image == ((0, 1), (3, 1)) and layout.crowded == 0


@pytest.mark.parametrize(("n", "crowded"), [(100, 0), (101, 1)])
def test_crowded_is_beyond_100_objects_of_one_class(write_coco, n, crowded):
    """pycocotools Params.maxDets: per picture and category; 60 of another class do not matter."""
    boxes = [{"bbox": [i, i, 9, 9]} for i in range(n)] + [{"category_id": 2, "bbox": [i, 0, 9, 9]} for i in range(60)]
    assert audited(write_coco(boxes)).splits[0].layout.crowded == crowded


# ------------------------------------------------------------------------------------------------------------- company


def with_classes(write_coco, pictures: list[list[int]], k: int):
    """The split of a file with one picture for each list of category ids."""
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(1, len(pictures) + 1)]
    boxes = [
        {"image_id": n, "category_id": category, "bbox": [2 * place, 9, 50, 50]}
        for n, classes in enumerate(pictures, start=1)
        for place, category in enumerate(classes)
    ]
    categories = [{"id": number, "name": f"c{number}"} for number in range(1, k + 1)]
    return audited(write_coco(boxes, images, categories)).splits[0]


def test_company_of_a_small_set(write_coco):
    """c1 is the head (4 pictures); c2 is always beside it, twice out of twice; c3 is alone once."""
    split = with_classes(write_coco, [[1, 1, 2], [1, 2, 3], [1], [1], [3, 3]], 4)
    one, two, three, four = (row.company for row in split.classes)
    assert (one.alone, one.partner, one.partner_share, one.only_with_head) == (2, "c2", 0.5, False)
    assert (two.alone, two.partner, two.partner_share, two.only_with_head) == (0, "c1", 1.0, True)
    assert (three.alone, three.partner, three.partner_share, three.only_with_head) == (1, "c1", 0.5, False)
    assert (four.alone, four.partner, four.partner_share, four.only_with_head) == (0, None, None, False)
    assert split.together.names == ("c1", "c2", "c3")
    assert split.together.images == ((4, 2, 1), (2, 2, 1), (1, 1, 2))


@IN_TMP
@given(st.lists(st.lists(st.integers(1, 30), max_size=30), min_size=1, max_size=12))
def test_company_is_what_sets_of_pictures_say(write_coco, pictures):
    """Python's sets of picture numbers, class by class."""
    split = with_classes(write_coco, pictures, 30)
    held = {f"c{c}": {n for n, classes in enumerate(pictures) if c in classes} for c in range(1, 31)}
    for row in split.classes:
        mine = held[row.name]
        meets = {name: len(mine & other) for name, other in held.items() if name != row.name}
        others = set().union(*(other for name, other in held.items() if name != row.name))
        assert row.company.alone == len(mine - others)
        most = max(meets.values())
        assert row.company.partner == (next(name for name, n in meets.items() if n == most) if most else None)
        assert row.company.partner_share == (pytest.approx(most / len(mine)) if most else None)
    names = split.together.names
    assert len(names) == min(MOST_TOGETHER, sum(map(bool, held.values())))
    assert split.together.images == tuple(tuple(len(held[a] & held[b]) for b in names) for a in names)


def test_picture_with_very_many_classes_is_left_out_of_partners(write_coco):
    """201 classes in one picture would be 20,100 meetings; everything else counts it."""
    split = with_classes(write_coco, [list(range(1, 202)), [1, 2]], 201)
    assert [row.company.partner for row in split.classes[:3]] == ["c2", "c1", None]
    assert split.classes[2].company.only_with_head and split.together.images[0][0] == 2


# ---------------------------------------------------------------------------------------------------------- first loss


def test_first_loss_is_the_formula_of_the_paper(write_coco):
    """Lin et al. 2017, eq. 5 at the prior, written out: n positives of -alpha (1 - p)^2 log p, N negatives of
    -(1 - alpha) p^2 log(1 - p)."""
    report = audited(write_coco([{}]))
    anchors, loss = report.splits[0].classes[0].anchors, report.first_loss
    positive = -anchors.positives * 0.25 * 0.99**2 * np.log(0.01)
    negative = -anchors.negatives * 0.75 * 0.01**2 * np.log(0.99)
    assert (loss.source, loss.alpha, loss.gamma, loss.prior) == ("RetinaNet", 0.25, 2.0, 0.01)
    assert loss.per_class == (pytest.approx(negative / (negative + positive)), None)
    assert loss.negatives == pytest.approx(loss.per_class[0])  # the dog has no output


def test_first_loss_of_all_classes_sums_their_outputs(write_coco):
    """With alpha 1/2, gamma 0 and a score of 1/2 everywhere every anchor costs the same: the share is a count."""
    path = write_coco([{}, {"bbox": [200, 20, 60, 60]}, {"image_id": 2, "category_id": 2}])
    report = audit({"train": coco.load(path)}, AnchorSpec(), min_size=320, max_size=1333, loss=("r.yaml", 0.5, 0, 0.5))
    rows = [row.anchors for row in report.splits[0].classes]
    negatives, positives = sum(row.negatives for row in rows), sum(row.positives for row in rows)
    assert report.first_loss.negatives == pytest.approx(negatives / (negatives + positives))
    assert report.first_loss.per_class == pytest.approx([r.negatives / (r.negatives + r.positives) for r in rows])


def test_loss_by_class_as_recipes_have_it(write_coco):
    """`default` serves the classes not named; there is no one alpha to show."""
    dataset = {"train": coco.load(write_coco())}
    sizes = {"min_size": 320, "max_size": 1333}
    loss = audit(dataset, AnchorSpec(), **sizes, loss=("r", {"dog": 0.9, "default": 0.25}, 2, 0.01)).first_loss
    plain = audit(dataset, AnchorSpec(), **sizes).first_loss
    assert loss.alpha is None and loss.gamma == 2
    assert loss.per_class[0] == plain.per_class[0] and loss.per_class[1] < plain.per_class[1]
    with pytest.raises(FocalError, match="'cat'"):
        audit(dataset, AnchorSpec(), **sizes, loss=("r", {"dog": 0.9}, 2, 0.01))


def test_no_positive_no_share(write_coco):
    """Undefined is null."""
    loss = audited(write_coco([])).first_loss
    assert loss.negatives is None and loss.per_class == (None, None)


# ---------------------------------------------------------------------------------------------------------- everything


def test_json_and_csv_have_every_figure(write_coco):
    """JSON as the dataclasses have it, with the edges of its histograms; CSV flat, the histograms left out."""
    report = audited(write_coco(), write_coco(name="val.json"))
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    split = content["splits"][0]
    assert split["entropy"] == 1.0 and len(split["layout"]["heat"]) == HEAT_CELLS
    assert len(split["classes"][0]["scale"]["sides"]) == len(content["side_edges"]) - 1
    assert content["drift"][0]["split"] == "val" and content["first_loss"]["source"] == "RetinaNet"
    rows = report.to_rows()
    assert not any(isinstance(value, (tuple, list, dict)) for row in rows for value in row.values())
    assert rows[0]["medium_in_file"] == 1 and rows[0]["side_p50"] == pytest.approx(8000**0.5)
    assert rows[0]["company_alone"] == 1 and rows[0]["effective_number"] == pytest.approx(1)


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS.keys())
def test_term_page_is_complete_and_fits_a_terminal(term):
    """`focal explain` prints it: what it is, how to read it, where it comes from."""
    assert all(len(part) > 10 for part in (term.title, term.what, term.read, term.source))
    assert max(map(len, term.doc.splitlines())) <= 100


@pytest.mark.parametrize("n", [2, 3, 3.5, 4.5, 8])
def test_aspect_page_tells_the_iou_of_long_boxes_right(n):
    """Its bound 1 / (sqrt(2 r) - 1), against the best of many sizes of an anchor of ratio 2 on the same centre."""
    width = np.linspace(0.1, n, 20_000)
    inter = np.minimum(1, width) * np.minimum(n, 2 * width)
    best = (inter / (n + 2 * width**2 - inter)).max()
    assert best == pytest.approx(1 / ((2 * n) ** 0.5 - 1), abs=1e-3)


def test_thin_box_page_tells_the_best_iou_right():
    """That bound for the box of 20:1 which the page speaks of."""
    assert f"at most {1 / (40**0.5 - 1):.2f}," in RULES["F111"].why
