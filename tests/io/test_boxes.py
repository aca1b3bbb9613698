"""Files of boxes (facemodels.io.boxes)."""

import pytest

from facemodels import InputError
from facemodels.io.boxes import read_boxes


def test_each_photograph_has_its_boxes_and_a_single_one_needs_no_list(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text('\ufeff{"a.jpg": [[1, 2, 3.5, 4], [0, 0, 9, 9]], "b.jpg": [5, 6, 7, 8], "c.jpg": []}', "utf-8")
    assert read_boxes(path) == {"a.jpg": [(1, 2, 3.5, 4), (0, 0, 9, 9)], "b.jpg": [(5, 6, 7, 8)], "c.jpg": []}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("file,x0,y0,x1,y1\na.jpg,1,2,3,4\n", "found no JSON: 'file,x0,y0,x1,y1' ..."),
        ("", "found an empty file"),
        (" \n", "found nothing"),
        ("[[1, 2, 3, 4]]", "found a list of 1 in place of the object"),
        ("3", "found 3 in place"),
        ('{"a.jpg": 5}', "for 'a.jpg', found 5"),
        ('{"a.jpg": {"x0": 1}}', "found an object of 1"),
        ('{"a.jpg": [1, 2, 3]}', "found 1"),
        ('{"a.jpg": [[1, 2, 3]]}', r"found \[1, 2, 3\]"),
        ('{"a.jpg": [[1, 2, "3", 4]]}', r'found \[1, 2, "3", 4\]'),
        ('{"a.jpg": [[1, 2, true, 4]]}', "true"),
        ('{"a.jpg": [[1, 2, NaN, 4]]}', "NaN"),
        ('{"a.jpg": [[5, 2, 1, 4]]}', r"found \[5, 2, 1, 4\]"),
        ('{"a.jpg": [[0, 0, 1' + "0" * 400 + ", 4]]}", "found"),
        ('{"a.jpg": ' + "[" * 100_000, "found no JSON|found JSON that is cut off"),
        ('{"a.jpg": [[1, 2,\n3 4]]}', r"found JSON that is cut off or damaged \(line 2, column 3\)"),
        ("\0", "not a text file"),
    ],
)
def test_what_is_no_file_of_boxes_is_one_sentence_without_words_of_python(tmp_path, content, found):
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(InputError, match=found) as error:
        read_boxes(path)
    said = str(error.value)
    assert str(path) in said and "\n" not in said and len(said) < 600
    assert not any(word in said for word in ("object is not", "attribute", "float()", "NoneType", "char 0", "str'"))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path, found in ((tmp_path / "none.json", "there is no such file; expected"), (tmp_path, "found a folder")):
        with pytest.raises(InputError, match=found):
            read_boxes(path)
