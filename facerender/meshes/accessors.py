"""The container of glTF 2.0: JSON, buffers, and accessors as arrays (specification, 3.6 and 4.4)."""

import base64
import json
import re
import struct
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np

from .parsed import MeshError
from .text import find_file, shown

COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
LARGEST_JSON = 160 * 2**20  # bytes of a .gltf file, with the buffers in it
MOST_ENTRIES = 4_000_000  # of JSON; each takes some 60 bytes
SIZES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Container:
    """A .glb or .gltf file.

    Args:
        path: the file.

    Raises:
        MeshError: it is no glTF 2.0 file, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as opened:
            binary = opened.read(4) == b"glTF"
        size = path.stat().st_size
        if not binary and size > LARGEST_JSON:
            raise MeshError(
                f"{path}: a text file of {size >> 20:,} MB is not read, {LARGEST_JSON >> 20} at most; export it as .glb"
            )
        data = path.read_bytes()
        self.size = len(data)
        self.binary: bytes | None = None
        if binary:
            data = self._chunks(data)
        elif path.suffix.lower() == ".glb":
            raise MeshError(f"{path}: not a readable GLB file: it does not begin with glTF; export it again")
        entries = data.count(b",") + data.count(b"[") + data.count(b"{")
        if entries > MOST_ENTRIES:
            raise MeshError(
                f"{path}: its JSON has {entries:,} entries, {MOST_ENTRIES:,} at most are read; export it again"
            )
        self.json: dict[str, Any] = self._parsed(data)
        if not isinstance(self.json, dict):
            raise MeshError(f"{path}: not a readable glTF file: its JSON is no object; export it again")
        version = str(self.json.get("asset", {}).get("version", ""))
        if version.split(".")[0] != "2":
            raise MeshError(f"{path}: glTF of version {version[:20] or 'unknown'} is not read; export it as glTF 2.0")
        self._buffers: dict[int, bytes] = {}

    def _chunks(self, data: bytes) -> bytes:
        """The JSON of a binary file; its buffer is kept."""
        version, length = struct.unpack_from("<II", data, 4)
        if version != 2:
            raise MeshError(f"{self.path}: glTF of version {version} is not read; export it as glTF 2.0")
        if length > len(data):
            raise MeshError(
                f"{self.path}: the file ends after {len(data):,} of {length:,} bytes; it is cut off, copy it again"
            )
        at, text = 12, None
        while at + 8 <= length:
            size, kind = struct.unpack_from("<I4s", data, at)
            if at + 8 + size > len(data):
                raise MeshError(f"{self.path}: a part of the file ends behind it; it is damaged, export it again")
            content = data[at + 8 : at + 8 + size]
            if kind == b"JSON" and text is None:
                text = content
            elif kind == b"BIN\0" and self.binary is None:
                self.binary = content
            at += 8 + size + (-size) % 4
        if text is None:
            raise MeshError(f"{self.path}: not a readable GLB file: it has no JSON; export it again")
        return text

    def _parsed(self, data: bytes) -> Any:
        """What the JSON says."""
        try:
            return json.loads(data)
        except UnicodeDecodeError as error:
            wrong = f"byte {error.start} of it is no text in UTF-8"
        except json.JSONDecodeError as error:
            wrong = f"{error.msg} in line {error.lineno}, column {error.colno}"
        except RecursionError:
            wrong = "it is nested too deeply"
        raise MeshError(f"{self.path}: not a readable glTF file: its JSON is damaged ({wrong}); export it again")

    def item(self, kind: str, index: Any) -> dict[str, Any]:
        """Object `index` of a list at the top of the JSON."""
        items = self.json.get(kind, [])
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(items):
            raise MeshError(
                f"{self.path}: the file names {kind}[{str(index)[:20]}], which it does not have; export it again"
            )
        found = items[index]
        if not isinstance(found, dict):
            raise MeshError(f"{self.path}: {kind}[{index}] is no object; the file is damaged, export it again")
        return found

    def resource(self, uri: str, what: str) -> bytes | Path:
        """The content of a data URI, or the file that a URI names."""
        if uri.startswith("data:"):
            head, _, content = uri.partition(",")
            given = urllib.parse.unquote_to_bytes(content)
            if not head.endswith(";base64"):
                return given
            try:
                return base64.b64decode(given)
            except ValueError:
                raise MeshError(
                    f"{self.path}: its {what} in the file is cut off or damaged (not whole base64); export it again"
                ) from None
        given = urllib.parse.unquote_to_bytes(uri)
        if b"://" in given and not given.lower().startswith(b"file:"):
            raise FileNotFoundError(f"{self.path}: its {what} is at {shown(given)}, and addresses are not fetched")
        if re.match(rb"(?i)file:|[a-z]:|[/\\]", given):
            # An absolute path is one of another machine, or of a file that no mesh should open.
            given = re.split(rb"[/\\]", given)[-1]
        found = find_file(self.path.parent, given)
        if found is None:
            raise FileNotFoundError(f"{self.path}: its {what} {shown(given)} was not found beside it")
        return found

    def buffer(self, index: Any) -> bytes:
        """The bytes of a buffer."""
        if index in self._buffers:
            return self._buffers[index]
        buffer = self.item("buffers", index)
        if "uri" in buffer:
            try:
                content = self.resource(buffer["uri"], "buffer")
            except FileNotFoundError as error:
                raise MeshError(f"{error}; put it beside the file") from None
            found = content if isinstance(content, bytes) else content.read_bytes()
            self.size += len(found)
        elif index == 0 and self.binary is not None:
            found = self.binary
        else:
            raise MeshError(
                f"{self.path}: buffer {index} has no data; the file is damaged, or compressed in a way unknown here"
            )
        self._buffers[index] = found
        return found

    def view(self, index: Any) -> tuple[bytes, int, int, int]:
        """A buffer, and a view's offset, length and stride (0 where it has none) in it."""
        view = self.item("bufferViews", index)
        data = self.buffer(view["buffer"])
        offset, length, stride = (self._natural(view, key) for key in ("byteOffset", "byteLength", "byteStride"))
        if offset + length > len(data):
            raise MeshError(
                f"{self.path}: bufferViews[{index}] ends behind its buffer; it is cut off or damaged, "
                "copy or export it again"
            )
        return data, offset, length, stride

    def view_bytes(self, index: Any) -> bytes:
        """The bytes of a view."""
        data, offset, length, _ = self.view(index)
        return data[offset : offset + length]

    def _natural(self, holder: dict[str, Any], key: str) -> int:
        value = holder.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
            raise MeshError(
                f"{self.path}: {key} is {str(value)[:20]}, not a size; the file is damaged, export it again"
            )
        return value

    def _strided(self, view: Any, start: int, component: np.dtype, count: int, columns: int) -> np.ndarray:
        """Numbers [count,columns] of a view, from an offset in it on."""
        data, offset, length, stride = self.view(view)
        step = component.itemsize * columns
        stride = stride or step
        if count and start + stride * (count - 1) + step > length:
            raise MeshError(
                f"{self.path}: an accessor ends behind its view; it is cut off or damaged, copy or export it again"
            )
        return np.ndarray((count, columns), component, data, offset + start, (stride, component.itemsize))

    def raw(self, index: Any) -> np.ndarray:
        """The numbers of an accessor as they are stored, [count,columns]."""
        accessor = self.item("accessors", index)
        component, kind = accessor.get("componentType"), accessor.get("type")
        if component not in COMPONENTS or kind not in SIZES:
            raise MeshError(
                f"{self.path}: accessors[{index}] has the type {component}, {kind}, which is not read; export it again"
            )
        dtype, columns, count = np.dtype(COMPONENTS[component]), SIZES[kind], self._natural(accessor, "count")
        sparse = accessor.get("sparse")
        if "bufferView" in accessor:
            values = self._strided(accessor["bufferView"], self._natural(accessor, "byteOffset"), dtype, count, columns)
        else:
            if count > self.size:
                raise MeshError(
                    f"{self.path}: accessors[{index}] claims {count:,} zeros in a small file; it is damaged, "
                    "export it again"
                )
            values = np.zeros((count, columns), dtype)
        if sparse is not None:
            number = self._natural(sparse, "count")
            where, what = sparse["indices"], sparse["values"]
            places = self._strided(
                where["bufferView"],
                self._natural(where, "byteOffset"),
                np.dtype(COMPONENTS[where["componentType"]]),
                number,
                1,
            )[:, 0]
            moved = self._strided(what["bufferView"], self._natural(what, "byteOffset"), dtype, number, columns)
            if number and (places.dtype.kind == "f" or int(places.min()) < 0 or int(places.max()) >= count):
                raise MeshError(
                    f"{self.path}: accessors[{index}] has sparse values outside of it; the file is damaged, "
                    "export it again"
                )
            values = values.copy()
            values[places] = moved
        return values

    def numbers(self, index: Any, decoded: np.ndarray | None = None) -> np.ndarray:
        """The values of an accessor, float64 [count,columns]: normalized integers in 0..1 or -1..1, others as they are.

        Args:
            index: of the accessor.
            decoded: what is stored, where it is compressed.
        """
        accessor = self.item("accessors", index)
        if decoded is None:
            values = self.raw(index)
        else:  # decoders give wider types, and a normalized number is a share of the largest of its own
            component = accessor.get("componentType")
            if component not in COMPONENTS:
                raise MeshError(
                    f"{self.path}: accessors[{index}] has the type {component}, which is not read; export it again"
                )
            values = decoded if component == 5126 else decoded.astype(COMPONENTS[component])
        return scaled(values) if accessor.get("normalized") is True else values.astype(np.float64)


def scaled(values: np.ndarray) -> np.ndarray:
    """Normalized integers as float64."""
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    return np.maximum(values.astype(np.float64) / np.iinfo(values.dtype).max, -1)
