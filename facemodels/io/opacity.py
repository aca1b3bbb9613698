"""VP8 and VP9 with transparency: WebM keeps the opacity as a second stream of pictures, beside each packet."""

import struct
from typing import Any

import numpy as np

_KEPT = 64  # pictures of opacity that wait for their frame


class OpacityDecoder:
    """Decodes the packets of a stream to frames with an opacity, by FFmpeg's own decoders.

    Where the opacity is missing or damaged, frames have none.

    Args:
        stream: PyAV's stream.
        options: FFmpeg's options of the decoder of the opacity.
    """

    def __init__(self, stream: Any, options: dict[str, str]) -> None:
        import av

        self._stream = stream
        self._decoder: Any = av.CodecContext.create(stream.codec_context.codec.canonical_name, "r")
        self._decoder.options = options
        self._waiting: dict[int, Any] = {}  # by time stamp: frames come later than their packets

    def decode(self, packet: Any) -> list[Any]:
        """Decode a packet to the frames that are complete; None at the end of the stream."""
        if packet is not None and packet.size:
            self._decode_opacity(packet)
        return [self._joined(frame) for frame in self._stream.decode(packet)]

    def _decode_opacity(self, packet: Any) -> None:
        import av

        for beside in packet.iter_sidedata():
            content = bytes(beside) if beside.data_type == "matroska_block_additional" else b""
            if len(content) <= 8 or struct.unpack(">Q", content[:8])[0] != 1:  # 1: opacity
                continue
            picture = av.Packet(content[8:])
            picture.pts, picture.dts, picture.time_base = packet.pts, packet.dts, packet.time_base
            try:
                for frame in self._decoder.decode(picture):
                    self._waiting[frame.pts] = frame
            except (av.FFmpegError, ValueError, MemoryError):
                pass
        while len(self._waiting) > _KEPT:
            self._waiting.pop(next(iter(self._waiting)))

    def _joined(self, frame: Any) -> Any:
        import av

        opacity = self._waiting.pop(frame.pts, None)
        name = frame.format.name.replace("yuv", "yuva", 1)
        if opacity is None or (opacity.width, opacity.height) != (frame.width, frame.height):
            return frame
        if opacity.format.components[0].bits != frame.format.components[0].bits:
            return frame
        try:
            joined = av.VideoFrame(frame.width, frame.height, name)
        except ValueError:  # there is no such format
            return frame
        planes = [*frame.planes[:3], opacity.planes[0]]
        size = (frame.format.components[0].bits + 7) // 8
        for target, source in zip(joined.planes, planes):
            _pixels(target, size)[:] = _pixels(source, size)
        joined.pts, joined.time_base = frame.pts, frame.time_base
        joined.colorspace, joined.color_range = frame.colorspace, frame.color_range
        joined.color_primaries, joined.color_trc = frame.color_primaries, frame.color_trc
        return joined


def _pixels(plane: Any, size: int) -> np.ndarray:
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width * size]
