"""From the frames that a file stores to those that are shown: by a graph of FFmpeg's filters.

Interlaced frames become whole ones, HDR and wide gamuts become sRGB, pixels become square, and frames are turned and
mirrored as the file's display matrix says.
"""

import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from facemodels.io.hdr import PRIMARIES, TRANSFERS, write_cube

# FFmpeg's numbers of matrices (ITU-T H.273) and its scaler's names for them. Others are left to the scaler.
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_UNSPECIFIED = 2
FLAGS = (
    "fast_bilinear+accurate_rnd+full_chroma_int"  # exact to one level; the scaler's defaults are 1 to 2 levels too dark
)
_WIDEST_PIXEL = 4  # pixel aspect ratios beyond it, or below its inverse, are mistakes of a file


def is_hd(width: int, height: int) -> bool:
    """Whether players take untagged pictures of this size as BT.709; else they take them as BT.601."""
    return width >= 1280 or height > 576


def orientation(matrix: bytes | None) -> tuple[bool, bool, bool]:
    """Read a display matrix.

    Args:
        matrix: FFmpeg's nine integers (a b u, c d v, x y w): the pixel (x, y) is shown at (a x + c y, b x + d y).

    Returns:
        Whether rows and columns are exchanged, and whether the result is then flipped left-right, and up-down.
    """
    if matrix is None or len(matrix) < 36:
        return False, False, False
    a, b, _, c, d = (int(v) for v in np.frombuffer(matrix, np.int32, 5))
    if a * d - b * c == 0:
        return False, False, False
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


class FrameConverter:
    """Converts the frames of one stream.

    Args:
        stream: PyAV's stream.
        note: Told what a user should know of, in a few words.

    Attributes:
        aspect: Width by height of the pixels as they are shown, before they are made square; right from the first
            frame on.
    """

    def __init__(self, stream: Any, note: Callable[[str], None]) -> None:
        self._note = note
        self._base = stream.time_base
        stored = stream.sample_aspect_ratio or Fraction(1)
        if stored <= 0 or not 1 / _WIDEST_PIXEL <= stored <= _WIDEST_PIXEL:
            if stored > 0 and stored != 1:
                note(f"pixel aspect ratio {stored} ignored")
            stored = Fraction(1)
        self._stored = self.aspect = Fraction(stored)
        self._size: tuple[int, int] | None = None
        self._interlaced = False

    def convert(self, frames: Iterator[Any]) -> Iterator[Any]:
        """Convert PyAV's frames into PyAV's frames of format rgb24 or rgba, all of the first one's size."""
        graph, key = None, None
        for frame in frames:
            self._interlaced = self._interlaced or bool(frame.interlaced_frame)
            matrix = _frame_matrix(frame)
            found = (
                frame.width, frame.height, frame.format.name, int(frame.colorspace), int(frame.color_range),
                int(frame.color_primaries), int(frame.color_trc), self._interlaced, matrix,
            )  # fmt: skip
            if found != key:  # recordings of calls change their size on the way
                if graph is not None:
                    yield from _drained(graph)
                graph, key = self._graph(frame, matrix), found
            assert graph is not None
            graph.vpush(frame)
            yield from _pulled(graph)
        if graph is not None:
            yield from _drained(graph)

    def to_array(self, frame: Any) -> np.ndarray:
        """The pixels of a converted frame, uint8 [h,w,3]; transparent ones on white."""
        pixels = frame.to_ndarray()
        if pixels.shape[2] == 3:
            return np.ascontiguousarray(pixels)
        if (pixels[..., 3] != 255).any():
            self._note("transparency shown on white")
        alpha = pixels[..., 3:].astype(np.uint16)
        return ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)

    def _graph(self, frame: Any, matrix: bytes | None) -> Any:
        exchanged, mirrored, inverted = orientation(matrix)
        width, height, name = frame.width, frame.height, frame.format.name
        square = (width, height)
        if self._stored > 1:
            square = (round(width * self._stored), height)
        elif self._stored < 1:
            square = (width, round(height / self._stored))
        if self._stored != 1:
            self._note(f"pixels of {self._stored.numerator}:{self._stored.denominator} made square")
        shown = square[::-1] if exchanged else square
        if self._size is None:
            self._size, self.aspect = shown, 1 / self._stored if exchanged else self._stored
        elif shown != self._size:
            self._note("frames of several sizes, scaled to that of the first")
            square = self._size[::-1] if exchanged else self._size
        is_rgb = frame.format.is_rgb or frame.format.has_palette
        color = int(frame.colorspace)
        color = color if color in (0, 8, *_MATRICES) else _UNSPECIFIED  # others are damage, or nothing that is known
        filters: list[tuple[str, str | None]] = []
        if self._interlaced:
            self._note("deinterlaced")
            filters.append(("bwdif", "mode=send_frame:parity=auto:deint=interlaced"))
        flags = FLAGS if square == (width, height) else FLAGS.replace("fast_bilinear", "bicubic")
        scale = f"w={square[0]}:h={square[1]}:flags={flags}"
        if not is_rgb:
            guessed = "bt709" if is_hd(width, height) else "bt601"
            if said := guessed if color == _UNSPECIFIED else _MATRICES.get(color):
                scale += f":in_color_matrix={said}"
            if int(frame.color_range) in (1, 2):
                scale += f":in_range={('tv', 'pc')[int(frame.color_range) - 1]}"
        transparent = _has_alpha(frame.format)
        transfer = TRANSFERS.get(int(frame.color_trc))
        primaries = PRIMARIES.get(int(frame.color_primaries))
        if primaries is None and transfer is not None:
            primaries = "bt2020"
        cube = None
        if (transfer or primaries) and not transparent:
            self._note("HDR converted to SDR" if transfer else "wide gamut converted to sRGB")
            cube = Path(tempfile.mkstemp(prefix="facemodels-", suffix=".cube")[1])
            write_cube(cube, transfer, primaries)
            filters += [("scale", scale), ("format", "gbrp12"), ("lut3d", f"file={cube}:interp=tetrahedral")]
            filters.append(("scale", f"flags={FLAGS}"))
        else:
            filters.append(("scale", scale))
            if not is_rgb and not transparent:  # by planes, which takes half the time
                filters += [("format", "gbrp"), ("scale", None)]
        filters.append(("format", "rgba" if transparent else "rgb24"))
        if exchanged:
            filters.append(("transpose", "dir=0"))
        filters += [("hflip", None)] * mirrored + [("vflip", None)] * inverted
        try:
            source = f"video_size={width}x{height}:pix_fmt={name}:time_base={self._base}:pixel_aspect=1/1"
            extent = int(frame.color_range) if int(frame.color_range) in (1, 2) else 0
            return linked_graph(f"{source}:colorspace={color}:range={extent}", filters)
        finally:
            if cube is not None:
                cube.unlink()


def linked_graph(source: str, filters: list[tuple[str, str | None]]) -> Any:
    """A graph of filters in a row.

    Args:
        source: Arguments of the filter "buffer", which takes the frames.
        filters: Name and arguments of each filter.
    """
    from av.filter import Graph

    graph = Graph()
    graph.threads = 2
    nodes = [graph.add("buffer", source), *(graph.add(*one) for one in filters), graph.add("buffersink")]
    graph.link_nodes(*nodes)
    graph.configure()
    return graph


def _pulled(graph: Any) -> Iterator[Any]:
    import av

    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return


def _drained(graph: Any) -> Iterator[Any]:
    graph.vpush(None)
    yield from _pulled(graph)


def _has_alpha(form: Any) -> bool:
    return form.has_palette or any(part.is_alpha for part in form.components)


def _frame_matrix(frame: Any) -> bytes | None:
    from av.sidedata.sidedata import Type

    for data in frame.side_data:
        if data.type == Type.DISPLAYMATRIX:
            return bytes(data)
    return None
