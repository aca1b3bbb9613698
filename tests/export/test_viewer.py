"""The HTML viewer in a headless browser: it draws, sliders move the mesh, toggles change the picture."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time

import numpy as np
import pytest

from benchmarks.meshes import head
from facemodels.export import Mesh, write_html
from facemodels.export.viewer import STEP

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WINDOW = (800, 440)
OPTIONS = (
    "--headless=new --no-sandbox --disable-dev-shm-usage --no-first-run --hide-scrollbars --mute-audio "
    "--remote-debugging-pipe "
    "--use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader --ignore-gpu-blocklist "
    "--force-color-profile=srgb"
).split()


class Browser:
    """A headless Chromium, controlled over two pipes by its DevTools protocol: JSON messages ended by a zero byte."""

    def __init__(self, program, profile):
        down, self.to = os.pipe()
        self.back, up = os.pipe()
        # The browser listens on descriptor 3 and answers on 4; what is put there must lie elsewhere before.
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in (down, up)]
        command = [program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]

        def place():
            os.dup2(ends[0], 3), os.dup2(ends[1], 4)

        self.process = subprocess.Popen(
            command, preexec_fn=place, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for fd in (down, up, *ends):
            os.close(fd)
        self.count, self.rest, self.session, self.events = 0, b"", None, []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method, timeout=60, **parameters):
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters} | (
            {"sessionId": self.session} if self.session else {}
        )
        os.write(self.to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + timeout
        while True:
            while b"\0" not in self.rest:
                if not select.select([self.back], [], [], max(end - time.monotonic(), 0))[0]:
                    raise TimeoutError(f"the browser did not answer {method} within {timeout} s")
                chunk = os.read(self.back, 1 << 20)
                if not chunk:
                    raise RuntimeError(f"the browser ended during {method}")
                self.rest += chunk
            line, self.rest = self.rest.split(b"\0", 1)
            reply = json.loads(line)
            if reply.get("id") == self.count:
                if "error" in reply:
                    raise RuntimeError(f"{method}: {reply['error']['message']}")
                return reply["result"]
            self.events.append(reply)

    def run(self, script):
        """The value of an expression, awaited."""
        out = self("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in out:
            raise AssertionError(
                out["exceptionDetails"].get("exception", {}).get("description") or out["exceptionDetails"]["text"]
            )
        return out["result"].get("value")

    def size(self, width, height, ratio=1, phone=False):
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=ratio, mobile=phone)
        self("Emulation.setTouchEmulationEnabled", enabled=phone)

    def open(self, path):
        self.events.clear()
        self("Page.navigate", url=f"file://{path}")
        self.run("new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', done))")
        self.run("window.viewer.ready.then(() => true)")

    def picture(self):
        """PNG bytes of the page."""
        return base64.b64decode(self("Page.captureScreenshot", format="png")["data"])

    def close(self):
        self.process.terminate()
        self.process.wait()
        os.close(self.to), os.close(self.back)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no Chromium on the PATH (" + ", ".join(BROWSERS) + ")")
    running = Browser(program, tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


def person(resolution=16, **more):
    """The head by formula, with two morph targets, in millimeters."""
    vertices, faces, colours = head(resolution)
    vertices = vertices * 110
    x, y, z = vertices.T
    jaw, brow = np.zeros_like(vertices), np.zeros_like(vertices)
    jaw[:, 1] = -20 * np.clip(-y / 110, 0, 1) * (z > 0)
    brow[:, 1] = 6 * np.exp(-(((y - 40) / 20) ** 2)) * (z > 0)
    morphs = {"jawOpen": jaw, "browUp": brow}
    return Mesh(vertices, faces, colours=(colours / 255) ** 2.2, morphs=morphs, **{"name": "a head", **more})


def textured(mesh):
    """With a texture instead of colors, projected from the front: red on the subject's right, blue on the left."""
    uv = (mesh.vertices[:, :2] / 400 + 0.5).astype(np.float32)
    texture = np.zeros((32, 32, 3), np.float32)
    texture[:, :16, 0] = texture[:, 16:, 2] = 0.8
    texture[:8] += 0.2
    return Mesh(mesh.vertices, mesh.faces, uv=uv, uv_faces=mesh.faces, texture=texture, name="textured")


@pytest.fixture
def page(browser, tmp_path):
    """The browser at a page with one head that has everything."""
    mesh = person()
    error = np.abs(mesh.vertices[:, 0]) / 40
    error[mesh.vertices[:, 2] < 0] = np.nan
    mesh = person(error=error, landmarks=mesh.vertices[::40])
    write_html(tmp_path / "page.html", mesh)
    browser.size(*WINDOW)
    browser.open(tmp_path / "page.html")
    browser.mesh = mesh
    return browser


SLIDE = """((name, value) => {
  const input = document.querySelector(`.slider[title="${name}"] input`);
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
})"""


def pixels(page):
    """RGBA uint8 [H,W,4], the top row first."""
    shape = page.run("[canvas.height, canvas.width]")
    text = page.run("""(() => {
      const p = viewer.pixels();
      let s = "";
      for (let k = 0; k < p.length; k += 32768) s += String.fromCharCode(...p.subarray(k, k + 32768));
      return btoa(s);
    })()""")
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(*shape, 4)[::-1].astype(int)


def vertices(page):
    return np.array(page.run("Array.from(viewer.vertices())"), np.float32).reshape(-1, 3)


@pytest.mark.browser
def test_the_head_is_drawn_in_the_free_part_of_the_window(page):
    image = pixels(page)
    drawn = image[..., 3] > 0
    assert len(np.unique(image[drawn], axis=0)) > 500
    assert 0.05 < drawn.mean() < 0.6
    row, column = np.nonzero(drawn)
    left = page.run("document.getElementById('panel').getBoundingClientRect().left")
    assert row.min() > 10 and row.max() < WINDOW[1] - 10 and column.min() > 10 and column.max() < left
    np.testing.assert_allclose(
        [(column.min() + column.max()) / 2, (row.min() + row.max()) / 2], [left / 2, WINDOW[1] / 2], atol=12
    )


@pytest.mark.browser
def test_a_slider_moves_the_vertices_by_its_morph_target_and_changes_the_picture(page):
    before, mesh = pixels(page), page.mesh
    np.testing.assert_allclose(vertices(page), mesh.vertices, atol=0.005)  # 16 bits over 300 mm
    page.run(f"{SLIDE}('jawOpen', 0.6)")
    np.testing.assert_allclose(vertices(page), mesh.vertices + 0.6 * mesh.morphs["jawOpen"], atol=0.005 + STEP)
    after = pixels(page)
    assert (np.abs(after - before).max(-1) > 20).sum() > 500
    page.run(f"{SLIDE}('browUp', 1)")
    np.testing.assert_allclose(
        vertices(page), mesh.vertices + 0.6 * mesh.morphs["jawOpen"] + mesh.morphs["browUp"], atol=0.005 + 2 * STEP
    )
    assert page.run("document.querySelector('.slider[title=jawOpen] output').textContent") == "0.60"
    page.run(f"{SLIDE}('jawOpen', 0), {SLIDE}('browUp', 0)")
    assert (pixels(page) == before).all()


@pytest.mark.browser
def test_each_switch_changes_the_picture_and_changes_it_back(page):
    before = pixels(page)
    for name, least in (("colour", 3000), ("wireframe", 3000), ("heat", 3000), ("landmarks", 100)):
        page.run(f"document.getElementById('{name}').click()")
        assert (np.abs(pixels(page) - before).max(-1) > 15).sum() > least, name
        page.run(f"document.getElementById('{name}').click()")
        assert (pixels(page) == before).all(), name


@pytest.mark.browser
def test_the_heat_map_runs_from_blue_to_red_and_leaves_out_what_was_not_measured(page):
    page.run("document.getElementById('heat').click()")
    assert page.run("document.getElementById('scale').hidden") is False
    ticks = page.run("[...document.getElementById('ticks').children].map((t) => parseFloat(t.textContent))")
    measured = page.mesh.error[np.isfinite(page.mesh.error)]
    np.testing.assert_allclose(ticks, [0, ticks[2] / 2, np.quantile(measured, 0.98)], atol=0.06)
    image = pixels(page)[..., :3]
    row, column = np.nonzero(pixels(page)[..., 3] > 250)
    middle, nose = int(row.mean()), int((column.min() + column.max()) / 2)
    reds, blues = image[middle, :, 0], image[middle, :, 2]
    assert blues[nose] > reds[nose] + 40  # no error in the plane of symmetry
    outer = np.flatnonzero(pixels(page)[middle, :, 3] > 250)
    at = outer[len(outer) // 8]
    assert reds[at] > blues[at] + 40
    page.run("viewer.eye.yaw = Math.PI")
    back = pixels(page)
    solid = back[back[..., 3] > 250][:, :3]
    assert np.median(np.ptp(solid, axis=1)) < 40  # gray


@pytest.mark.browser
def test_the_texture_lies_the_right_way_up_and_round(browser, tmp_path):
    write_html(tmp_path / "page.html", textured(person()))
    browser.size(*WINDOW)
    browser.open(tmp_path / "page.html")
    image = pixels(browser)
    row, column = np.nonzero(image[..., 3] > 250)
    nose, middle = int((column.min() + column.max()) / 2), int((row.min() + row.max()) / 2)
    left, right = (
        image[middle, nose - 45],
        image[middle, nose + 45],
    )  # on the screen: the subject's right is on the left
    assert left[0] > left[2] + 60 and right[2] > right[0] + 60
    top = image[row.min() + 8, nose - 20]
    assert top[1] > left[1] + 40  # the texture's first rows are paler


# The weights once ten frames and 300 ms have not changed them; how fast frames are drawn depends on the machine.
SETTLED = """new Promise((done) => {
  let before = null, since = 0, frames = 0;
  const look = () => {
    const weights = JSON.stringify(viewer.weights());
    if (weights !== before) [before, since, frames] = [weights, performance.now(), 0];
    if (++frames > 10 && performance.now() - since > 300) done(viewer.weights());
    else requestAnimationFrame(look);
  };
  look();
})"""


@pytest.mark.browser
def test_presets_random_and_reset_glide_to_their_weights(browser, tmp_path):
    write_html(tmp_path / "page.html", person(weights={"browUp": 0.25}, presets={"ah": {"jawOpen": 0.7}}))
    browser.open(tmp_path / "page.html")

    def weights():
        return browser.run(SETTLED)

    assert weights() == {"browUp": 0.25}
    browser.run("document.querySelector('#presets button').click()")
    assert weights() == pytest.approx({"jawOpen": 0.7})
    browser.run("document.getElementById('random').click()")
    assert 0 < weights()["jawOpen"] <= 1
    browser.run("document.getElementById('neutral').click()")
    assert weights() == {}


@pytest.mark.browser
def test_mouse_wheel_touch_and_keys_turn_and_zoom(page):
    def look():
        return page.run(
            "({ yaw: viewer.eye.yaw, pitch: viewer.eye.pitch, distance: viewer.eye.distance, x: viewer.eye.target[0] })"
        )

    first = look()

    def mouse(kind, x, y, **more):
        page("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(button, buttons):
        mouse("mousePressed", 200, 300, button=button, buttons=buttons, clickCount=1)
        mouse("mouseMoved", 260, 280, button=button, buttons=buttons)
        mouse("mouseReleased", 260, 280, button=button)

    drag("left", 1)
    turned = look()
    assert turned["yaw"] == pytest.approx(first["yaw"] + 0.48) and turned["pitch"] == pytest.approx(
        first["pitch"] - 0.16
    )
    drag("right", 2)
    assert look()["x"] < turned["x"] - 5
    mouse("mouseWheel", 200, 300, deltaX=0, deltaY=-120)
    assert look()["distance"] < 0.95 * first["distance"]
    page.run("canvas.focus()")
    page("Input.dispatchKeyEvent", type="keyDown", key="0")
    assert look() == pytest.approx(first)
    page("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight")
    assert look()["yaw"] == pytest.approx(0.1)


@pytest.mark.browser
def test_on_a_phone_the_controls_lie_below_and_fingers_turn_and_pinch(browser, tmp_path):
    write_html(tmp_path / "page.html", person())
    browser.size(390, 780, 2, phone=True)
    try:
        browser.open(tmp_path / "page.html")
        top = browser.run("document.getElementById('panel').getBoundingClientRect().top")
        assert 390 < top < 700 and browser.run("document.documentElement.scrollWidth") == 390
        row, column = np.nonzero(pixels(browser)[..., 3])
        assert row.max() < 2 * top and row.min() > 60 and column.min() > 0 and column.max() < 779

        def touch(kind, *points):
            browser(
                "Input.dispatchTouchEvent",
                type=kind,
                touchPoints=[{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)],
            )

        touch("touchStart", (150, 200)), touch("touchMove", (190, 200)), touch("touchEnd")
        assert browser.run("viewer.eye.yaw") == pytest.approx(
            0.32, abs=0.13
        )  # a browser swallows the first pixels of a touch
        before = browser.run("viewer.eye.distance")
        touch("touchStart", (150, 200), (200, 200)), touch("touchMove", (100, 200), (250, 200)), touch("touchEnd")
        assert browser.run("viewer.eye.distance") < 0.6 * before
    finally:
        browser.size(*WINDOW)


@pytest.mark.browser
def test_several_meshes_to_choose_from(browser, tmp_path):
    write_html(tmp_path / "page.html", [person(8, name="small"), textured(person(12))], title="Two")
    browser.open(tmp_path / "page.html")
    assert browser.run("[...document.getElementById('pick').options].map((o) => o.textContent)") == [
        "small",
        "textured",
    ]
    before = pixels(browser)
    browser.run("pick.value = 1; pick.dispatchEvent(new Event('change'))")
    assert len(vertices(browser)) == len(head(12)[0])
    assert browser.run("document.getElementById('expression').hidden") is True
    assert (np.abs(pixels(browser) - before).max(-1) > 20).sum() > 3000


@pytest.mark.browser
def test_nothing_is_asked_of_the_network_and_nothing_fails(page):
    page.run("document.getElementById('wireframe').click()")
    asked = [e["params"]["request"]["url"] for e in page.events if e.get("method") == "Network.requestWillBeSent"]
    assert asked and all(url.startswith("file://") for url in asked) and len(asked) == 1
    assert not [e for e in page.events if e.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled")]


@pytest.mark.browser
def test_names_are_shown_as_text_whatever_they_hold(browser, tmp_path):
    name = "</script><script>window.bad = 1</script><b>{{DATA}}"
    mesh = person(8, name=name)
    mesh.morphs = {name: mesh.morphs["jawOpen"]}
    write_html(tmp_path / "page.html", mesh)
    browser.open(tmp_path / "page.html")
    shown = browser.run(
        "[document.title, ...['h1', '.slider span'].map((s) => document.querySelector(s).textContent), window.bad]"
    )
    assert shown == [name, name, name, None]


@pytest.mark.browser
def test_a_browser_without_webgl_gets_a_sentence(browser, tmp_path):
    write_html(tmp_path / "page.html", person(8))
    script = browser(
        "Page.addScriptToEvaluateOnNewDocument", source="HTMLCanvasElement.prototype.getContext = () => null"
    )["identifier"]
    try:
        with pytest.raises(AssertionError, match="WebGL 2"):
            browser.open(tmp_path / "page.html")
        assert "WebGL 2" in browser.run("document.getElementById('message').innerText")
    finally:
        browser("Page.removeScriptToEvaluateOnNewDocument", identifier=script)


def test_a_model_of_ten_thousand_vertices_and_52_morph_targets_stays_below_four_megabytes(tmp_path):
    mesh = person(41)
    assert 9_900 < len(mesh.vertices) < 10_500
    rng = np.random.default_rng(0)
    near = [
        np.exp(-((mesh.vertices - mesh.vertices[rng.integers(len(mesh.vertices))]) ** 2).sum(1) / 40**2)
        for _ in range(52)
    ]
    mesh.morphs = {f"morph{k}": (10 * n[:, None] * rng.normal(size=3)).astype(np.float32) for k, n in enumerate(near)}
    write_html(tmp_path / "page.html", mesh)
    assert (tmp_path / "page.html").stat().st_size < 4e6
