"""Published tables with the method's row, notes, and error curves."""

import numpy as np
import pytest

from facemodels.evaluation.report import (
    HEIGHT,
    RECALLED,
    WIDTH,
    PublishedRow,
    Report,
    draw_curve,
    format_notes,
    format_table,
)

PUBLISHED = [
    PublishedRow("Second", [2.0, 3.0], "a paper"),
    PublishedRow("First", [1.0, 1.5], RECALLED),
    PublishedRow("Unknown", [None, None], "a paper"),
    PublishedRow("Half", [None, 4.0], "a paper"),
]


def report(**changed):
    given = dict(
        protocol="toy",
        title="What was measured",
        results={},
        errors=np.array([0.5, 1, 1.5, 9]),
        unit="percent",
        largest=2.0,
        columns=["some", "all"],
        row=[9.0, 3.5],
        ranked_by="all",
    )
    return Report(**given | dict(published=PUBLISHED, notes=["one note"]) | changed)


def test_rows_are_ordered_by_the_column_of_the_ranking_and_each_recalled_number_is_marked():
    lines = format_table(report(), "ours").splitlines()
    assert lines[0].split() == ["some", "all"]
    rows = [
        ["First", "1.00*", "1.50*"],
        ["Second", "2.00", "3.00"],
        [">", "ours", "9.00", "3.50"],
        ["Half", "-", "4.00"],
        ["Unknown", "-", "-"],
    ]
    assert [line.split() for line in lines[1:6]] == rows
    assert "recalled" in lines[-1] and lines[-1].strip().startswith("*")
    ends = {line.rstrip("*").rindex("0") for line in (lines[1], lines[2], lines[3])}
    assert len(ends) == 1, "digits stand under each other, marks beside them"


def test_legend_explains_only_the_marks_that_occur():
    text = format_table(report(published=[PublishedRow("Second", [2.0, 3.0], "a paper")]), "ours")
    assert "recalled" not in text and "*" not in text


def test_the_ranking_column_need_not_be_the_last():
    ours = format_table(report(row=[1.5, 99.0], ranked_by="some"), "ours").splitlines()
    assert [line.split()[0] for line in ours[1:4]] == ["First", ">", "Second"] and "sorted by some" in ours[-3]


def test_report_as_text_has_the_title_the_results_the_table_and_the_notes():
    text = str(report(results={"error_percent": 3.5}, method="mine"))
    for words in ("What was measured", "error_percent  3.500", "> mine", "  - one note"):
        assert words in text
    assert report(method="mine").table() == format_table(report(), "mine")


def test_row_without_a_number_in_the_ranking_column_follows_those_with_one():
    assert format_table(report(row=[None, None]), "ours").splitlines()[4].split() == [">", "ours", "-", "-"]


@pytest.mark.parametrize(
    "wrong",
    [
        dict(unit="miles"),
        dict(row=[1.0]),
        dict(published=[PublishedRow("A", [1.0], "a paper")]),
        dict(published=[PublishedRow("A", [1.0, 2.0], "")]),
        dict(largest=0.0),
        dict(ranked_by="most"),
    ],
)
def test_inconsistent_reports_are_refused(wrong):
    with pytest.raises(ValueError, match="must be|expected"):
        report(**wrong)


def test_curve_rises_at_each_error_to_its_share():
    picture = draw_curve(report(), "ours")
    assert picture.shape == (HEIGHT, WIDTH, 3) and picture.dtype == np.uint8 and (picture[0] == 255).all()
    blue = (picture[..., 2].astype(int) - picture[..., 0] > 100) & (picture[..., 2] > 150)
    left, right = 130, WIDTH - 50
    bottom, top = HEIGHT - 110, 90 + 30
    for error, share in ((0.25, 0), (0.75, 25), (1.25, 50), (1.75, 75)):
        rows = np.flatnonzero(blue[:, round(left + (right - left) * error / 2)])
        assert abs(rows - (bottom - (bottom - top) * share / 100)).min() <= 2, (error, share)


@pytest.mark.parametrize("errors", [[], [np.nan, 1.0], [5.0, 6.0], [0.0] * 3])
def test_curve_is_drawn_for_any_errors(errors):
    given = report(errors=np.array(errors), title="A long title, " * 20)
    assert draw_curve(given, "a-name").shape == (HEIGHT, WIDTH, 3)


def test_notes_are_wrapped_and_empty_if_there_are_none():
    text = format_notes(["word " * 60, "short"])
    assert max(map(len, text.splitlines())) <= 100 and "\n  - short" in text and format_notes([]) == ""
