"""safetensors files, read and written one tensor at a time.

The `safetensors` package writes a file from tensors that are all in memory, and maps a file into
memory to read it. Merging needs neither: the header is validated when a file is opened, and
tensors are read one by one; the writer needs all names, shapes and dtypes beforehand, then one
tensor at a time. What it writes is, byte for byte, what `safetensors.torch.save` writes.

Format: 8 bytes, little-endian: the length n of the header; n bytes of JSON, name → dtype, shape and
offsets into the rest; the tensors, back to back, little-endian, row-major.
"""

import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adamergex.errors import AdapterError

MAX_HEADER = 100_000_000
# How a pointer of Git LFS begins: "version https://git-lfs.github.com/spec/v1".
_LFS = int.from_bytes(b"version ", "little")
# In the order in which the safetensors package ranks them; files store the last of these first.
_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_RANKS = {dtype: rank for rank, dtype in enumerate(_DTYPES.values())}


class Spec(NamedTuple):
    """Shape and dtype of a tensor, without its values."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class TensorFile(Mapping[str, Tensor]):
    """A safetensors file; each access reads one tensor, and nothing is kept.

    Attributes:
        path: the file.
        specs: shape and dtype of each tensor, in the order of the names.

    Raises:
        AdapterError: on opening, the file is missing, not a regular file, or not valid; on access, it has shrunk since.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            # A pipe or a device would wait for ever, or never end.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise AdapterError(f"{path}: not a regular file")
            self._file = path.open("rb", buffering=0)
            size = os.fstat(self._file.fileno()).st_size
            header, data_start = _header(self._file.read, path, size)
        except OSError as error:
            raise AdapterError(f"{path}: cannot be read: {error.strerror or error}") from error
        self.specs: dict[str, Spec] = {}
        self._starts: dict[str, int] = {}
        extents = []
        for name in sorted(header):
            spec, start, stop = _entry(path, name, header[name])
            extents.append((start, stop, name))
            self.specs[name] = spec
            self._starts[name] = data_start + start
        end = 0
        for start, stop, name in sorted(extents):
            if start != end:
                raise AdapterError(
                    f"{path}: not a valid safetensors file: tensor {name} starts at {start}, not at {end}"
                )
            end = stop
        if data_start + end != size:
            raise AdapterError(
                f"{path}: not a whole safetensors file: its header promises {data_start + end} bytes, it has {size}; "
                "copy or train it again"
            )

    def rename(self, names: Mapping[str, str]) -> None:
        """Give tensors other names; those that are not named are left out.

        Args:
            names: name now → name afterwards.
        """
        self.specs = {names[name]: self.specs[name] for name in sorted(names, key=lambda name: names[name])}
        self._starts = {new: self._starts[name] for name, new in names.items()}

    def __getitem__(self, name: str) -> Tensor:
        spec = self.specs[name]
        raw = torch.empty(spec.size, dtype=torch.uint8)
        rest = raw.numpy().data
        try:
            self._file.seek(self._starts[name])
            while rest:
                read = self._file.readinto(rest)
                if not read:
                    raise AdapterError(f"{self.path}: tensor {name} ends early; the file has changed while it was read")
                rest = rest[read:]
        except OSError as error:
            raise AdapterError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        return raw.view(spec.dtype).view(spec.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


def _header(read: Any, path: Path, size: int) -> tuple[dict[str, Any], int]:
    """The header without its metadata, and where the data begin."""
    length = int.from_bytes(read(8), "little")
    if length == _LFS:
        raise _pointer(path)
    # Checked before it is used: a forged length must not allocate memory.
    if size < 8 or length > min(size - 8, MAX_HEADER):
        raise AdapterError(
            f"{path}: not a whole safetensors file: it has {size} bytes, and its header claims {length}; "
            "copy or train it again"
        )
    try:
        header = json.loads(read(length).decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{path}: not a valid safetensors file: its header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise AdapterError(f"{path}: not a valid safetensors file: its header is not an object")
    header.pop("__metadata__", None)
    return header, 8 + length


def _pointer(path: Path) -> AdapterError:
    return AdapterError(
        f"{path}: is a Git LFS pointer and not the file itself; run `git lfs pull` in its repository, or download it again"
    )


def refuse_pointer(path: Path) -> None:
    """Raises AdapterError where a file is a Git LFS pointer, or cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read: {error.strerror or error}") from error
    if int.from_bytes(start, "little") == _LFS:
        raise _pointer(path)


def check_dtype(path: Path, name: str, tensor: Tensor) -> None:
    """Raises AdapterError where a tensor has a dtype that is not written."""
    if tensor.dtype not in _CODES or tensor.layout != torch.strided:
        raise AdapterError(
            f"{path}: tensor {name} has dtype {tensor.dtype}, {tensor.layout}; supported: {', '.join(_DTYPES)}"
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name appears twice")
    return dict(pairs)


def _entry(path: Path, name: str, entry: Any) -> tuple[Spec, int, int]:
    """One tensor of the header: its spec, and its extent in the data."""
    try:
        name.encode("utf-8")
        code, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        is_valid = (
            isinstance(shape, list)
            and all(type(n) is int and n >= 0 for n in shape)
            and type(start) is type(stop) is int
            and 0 <= start <= stop
        )
    except (KeyError, TypeError, ValueError):
        is_valid = False
    if not is_valid:
        shown = name.encode("utf-8", "backslashreplace").decode()
        raise AdapterError(
            f"{path}: not a valid safetensors file: tensor {shown} has no sound dtype, shape and offsets"
        )
    if not isinstance(code, str) or code not in _DTYPES:
        raise AdapterError(f"{path}: tensor {name} has dtype {code}; supported: {', '.join(_DTYPES)}")
    spec = Spec(tuple(shape), _DTYPES[code])
    if spec.size != stop - start:
        raise AdapterError(
            f"{path}: not a valid safetensors file: tensor {name} of {code} {shape} needs {spec.size} bytes, has {stop - start}"
        )
    return spec, start, stop


def write(path: Path, specs: Mapping[str, Spec], tensors: Iterable[tuple[str, Iterator[Tensor]]]) -> None:
    """Write a file whose tensors come one by one.

    Args:
        path: overwritten if it exists.
        specs: shape and dtype of every tensor.
        tensors: name and value of every tensor, in the order of `order(specs)`; the value in
            consecutive blocks of rows.

    Raises:
        OSError: the file cannot be written.
        ValueError: a tensor differs from its entry in `specs`.
    """
    names = order(specs)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in names:
        spec = specs[name]
        header[name] = {
            "dtype": _CODES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [offset, offset + spec.size],
        }
        offset += spec.size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb", buffering=0) as file:
        _write_all(file, memoryview(len(text).to_bytes(8, "little") + text))
        expected = iter(names)
        for name, pieces in tensors:
            written = 0
            for piece in pieces:
                if piece.dtype != specs[name].dtype:
                    raise ValueError(f"{path}: tensor {name} is not what was announced")
                written += piece.nbytes
                _write_all(file, piece.contiguous().reshape(-1).view(torch.uint8).numpy().data)
                # Freed here, or it would stay in memory while the next one is computed.
                del piece
            if name != next(expected, None) or written != specs[name].size:
                raise ValueError(f"{path}: tensor {name} is not what was announced")
        if next(expected, None) is not None:
            raise ValueError(f"{path}: tensors are missing")


def order(specs: Mapping[str, Spec]) -> list[str]:
    """The order of tensors in a file: the widest dtype first, so that every tensor is aligned, then by name."""
    return sorted(specs, key=lambda name: (-_RANKS[specs[name].dtype], name))


def _write_all(file: Any, content: memoryview) -> None:
    while content:
        content = content[file.write(content) :]
