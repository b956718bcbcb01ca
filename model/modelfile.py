"""The model file: a folder of pure data, checked as it is read.

``model.json`` holds the small fields and the SHA-256 of every part, itself included;
``weights.safetensors`` holds the arrays, ``lineage.json`` where the model comes from. Reading
parses and checks; it executes nothing, and needs nothing outside the standard library, so the
arrays come back as memory-mapped views.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from dataclasses import dataclass
from importlib.resources import as_file, files
from math import isfinite, prod
from pathlib import Path
from typing import Any, Final, Literal

from loopwise.errors import ModelError
from loopwise.model.features import CUES, N_BUCKETS
from loopwise.model.labels import AXES, Axis

FORMAT_VERSION: Final = 1
FIELDS_NAME: Final = "model.json"
WEIGHTS_NAME: Final = "weights.safetensors"
LINEAGE_NAME: Final = "lineage.json"
CARD_NAME: Final = "README.md"
#: The parts that ``model.json`` may vouch for. Its own digest is taken with `UNSIGNED` in its place.
PARTS: Final = (FIELDS_NAME, WEIGHTS_NAME, LINEAGE_NAME)
UNSIGNED: Final = "0" * 64
MAX_FIELDS_BYTES: Final = 4 << 20
MAX_WEIGHTS_BYTES: Final = 64 << 20
MAX_LINEAGE_BYTES: Final = 64 << 20
MAX_HEADER_BYTES: Final = 64 << 10

#: The columns of every weight array: contribution to each score, and squared norm.
COLUMNS: Final = ("loop", "mode", "scope", "squared_norm")

#: Per word, whether it is in the corpus or lexicon, and whether it marks English or another language.
KNOWN, ENGLISH, FOREIGN = 1, 2, 4

_FORMATS: Final[dict[str, Literal["f", "B", "I", "Q"]]] = {"F32": "f", "U8": "B", "U32": "I", "U64": "Q"}
_ITEM_BYTES: Final = {"F32": 4, "U8": 1, "U32": 4, "U64": 8}
#: Name, safetensors type and number of dimensions of every array, and what it holds.
_ARRAYS: Final = {
    "word_bytes": ("U8", 1),
    "word_offsets": ("U32", 1),
    "word_flags": ("U8", 1),
    "word_values": ("F32", 2),
    "pair_keys": ("U64", 1),
    "pair_values": ("F32", 2),
    "bucket_values": ("F32", 2),
    "cue_values": ("F32", 2),
}


@dataclass(frozen=True)
class ModelFile:
    """A model as read from its folder.

    Attributes
    ----------
    folder : Path
        Where it was read from.
    fields : dict
        The contents of ``model.json``.
    arrays : dict of str to memoryview
        Flat views of the weights, typed; two-dimensional ones have `len(COLUMNS)` columns.

    Notes
    -----
    Words are sorted by their UTF-8 bytes; word ``i`` is ``word_bytes[word_offsets[i]:word_offsets[i + 1]]``.
    A pair's key is ``(i + 1) << 32 | (j + 1)`` for words ``i`` and ``j``, with 0 for the edge of the
    text; keys are sorted.
    """

    folder: Path
    fields: dict[str, Any]
    arrays: dict[str, memoryview[Any]]

    @classmethod
    def load(cls, folder: Path | str) -> ModelFile:
        """Read and check the model in `folder`.

        Raises
        ------
        ModelError
            If the folder is not a model, or a part of it was changed, cut short, or makes no sense.
        """
        folder = Path(folder)
        fields = _read_fields(folder / FIELDS_NAME)
        data = _map(folder / WEIGHTS_NAME)
        _check_digest(folder / WEIGHTS_NAME, data, fields)
        arrays = _parse_arrays(folder / WEIGHTS_NAME, data)
        _check_shapes(folder / WEIGHTS_NAME, arrays)
        return cls(folder, fields, arrays)

    @classmethod
    def shipped(cls) -> ModelFile:
        """Read the model that ships with the package."""
        with as_file(files("loopwise.model") / "shipped") as folder:
            return cls.load(folder)

    def lineage(self) -> dict[str, Any]:
        """Read where the model comes from; empty for a model of the corpus alone.

        Raises
        ------
        ModelError
            If the file was changed or damaged.
        """
        if LINEAGE_NAME not in self.fields["sha256"]:
            return {}
        path = self.folder / LINEAGE_NAME
        data = _read_bytes(path, MAX_LINEAGE_BYTES)
        _check_digest(path, data, self.fields)
        lineage = json.loads(data)
        return lineage if isinstance(lineage, dict) else {}


def signed(fields: dict[str, Any], parts: dict[str, bytes]) -> bytes:
    """Return the contents of ``model.json``: `fields` with the digests of `parts` and of itself."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()}
    complete = {"format_version": FORMAT_VERSION} | fields
    complete["sha256"] = {FIELDS_NAME: UNSIGNED} | digests
    text = (json.dumps(complete, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
    return text.replace(UNSIGNED.encode(), hashlib.sha256(text).hexdigest().encode(), 1)


def _read_bytes(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise ModelError(f"{path}: larger than {limit} bytes; this is not a Loopwise model")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


def _check_digest(path: Path, data: bytes | mmap.mmap, fields: dict[str, Any]) -> None:
    if hashlib.sha256(data).hexdigest() != fields["sha256"].get(path.name):
        raise ModelError(
            f"{path}: its SHA-256 is not the one in {FIELDS_NAME}; the file was changed "
            "or damaged. Copy the model again, or go back with: loopwise models rollback"
        )


def _check_own_digest(path: Path, data: bytes, fields: dict[str, Any]) -> None:
    own = fields["sha256"].get(FIELDS_NAME)
    unsigned = data.replace(own.encode(), UNSIGNED.encode(), 1) if isinstance(own, str) and own else b""
    if hashlib.sha256(unsigned).hexdigest() != own:
        raise ModelError(
            f"{path}: its SHA-256 is not the one that it names; the file was changed "
            "or damaged. Copy the model again, or go back with: loopwise models rollback"
        )


def _read_fields(path: Path) -> dict[str, Any]:
    data = _read_bytes(path, MAX_FIELDS_BYTES)
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as a model ({error})") from error
    if not isinstance(fields, dict) or "format_version" not in fields:
        raise ModelError(f"{path}: has no format_version; this is not a Loopwise model")
    if fields["format_version"] != FORMAT_VERSION:
        raise ModelError(
            f"{path}: format version {fields['format_version']!r}, and this release reads {FORMAT_VERSION}. "
            "Retrain with: loopwise train"
        )
    for name, kind in (("sha256", dict), ("axes", dict), ("scope", dict), ("prior", dict)):
        if not isinstance(fields.get(name), kind):
            raise ModelError(f"{path}: the field {name!r} is missing or of the wrong type")
    for name in fields["sha256"]:
        if name not in PARTS:
            raise ModelError(f"{path}: names the part {name!r}; a model has no other than {', '.join(PARTS)}")
    _check_own_digest(path, data, fields)
    for axis in ("loop", "mode"):
        _check_axis(path, axis, fields)
    if not _finite(fields["scope"].get("intercept")):
        raise ModelError(f"{path}: the intercept of 'scope' is not a finite number")
    return fields


def _finite(*values: Any) -> bool:
    """Whether all `values` are numbers that a score can be made of."""
    return all(type(n) in (int, float) and abs(n) < 1e30 and isfinite(n) for n in values)


def _check_axis(path: Path, axis: Axis, fields: dict[str, Any]) -> None:
    entry, prior = fields["axes"].get(axis), fields["prior"].get(axis)
    try:
        thresholds, review = entry["thresholds"], entry["review"]
        numbers = [entry["intercept"], prior, *(thresholds[label] for label in AXES[axis])]
        tables = [review[label] for label in AXES[axis]]
        numbers += [point[name] for table in tables for point in table for name in ("target", "threshold")]
    except (TypeError, KeyError) as error:
        raise ModelError(f"{path}: the fields of {axis!r} are incomplete ({error})") from error
    if not _finite(*numbers) or not all(tables):
        raise ModelError(f"{path}: the intercept, prior or thresholds of {axis!r} are not finite numbers")
    if not 0 < prior < 1:
        raise ModelError(f"{path}: the prior of {axis!r} is {prior}, not a share between 0 and 1")


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if not 8 < size <= MAX_WEIGHTS_BYTES:
                raise ModelError(f"{path}: {size} bytes; weights have 9 to {MAX_WEIGHTS_BYTES}")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


def _parse_arrays(path: Path, data: mmap.mmap) -> dict[str, memoryview[Any]]:
    """Parse the safetensors layout: header length, JSON header, data."""
    view = memoryview(data)
    header_bytes = int.from_bytes(view[:8], "little")
    if header_bytes > min(MAX_HEADER_BYTES, len(view) - 8):
        raise ModelError(f"{path}: the header says {header_bytes} bytes, more than the file holds")
    try:
        header = json.loads(bytes(view[8 : 8 + header_bytes]))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: the header is not JSON") from error
    body = view[8 + header_bytes :]
    arrays: dict[str, memoryview[Any]] = {}
    for name, (dtype, n_dims) in _ARRAYS.items():
        try:
            entry = header[name]
            begin, end = entry["data_offsets"]
            shape = entry["shape"]
            whole = all(type(n) is int for n in (begin, end, *shape))
            fits = (
                whole and entry["dtype"] == dtype and len(shape) == n_dims and 0 <= begin <= end <= len(body)
            )
            fits = fits and prod(shape) * _ITEM_BYTES[dtype] == end - begin
            fits = fits and (n_dims == 1 or shape[1] == len(COLUMNS))
        except (TypeError, KeyError, ValueError, IndexError):
            fits = False
        if not fits:
            raise ModelError(f"{path}: the array {name!r} is missing or does not have the layout it should")
        arrays[name] = body[begin:end].cast(_FORMATS[dtype])
    return arrays


def _check_shapes(path: Path, arrays: dict[str, memoryview[Any]]) -> None:
    n_words = len(arrays["word_flags"])
    width = len(COLUMNS)
    offsets = arrays["word_offsets"]
    ends = offsets.tolist()
    consistent = (
        ends == sorted(ends)
        and len(offsets) == n_words + 1
        and offsets[0] == 0
        and offsets[n_words] == len(arrays["word_bytes"])
        and len(arrays["word_values"]) == n_words * width
        and len(arrays["pair_values"]) == len(arrays["pair_keys"]) * width
        and len(arrays["bucket_values"]) == N_BUCKETS * width
        and len(arrays["cue_values"]) == len(CUES) * width
    )
    if not consistent:
        raise ModelError(f"{path}: the arrays do not fit each other")
    for name in ("word_values", "pair_values", "bucket_values", "cue_values"):
        # The top byte of a float32 is 0x7f or 0xff only for NaN, infinity and numbers beyond 1e38.
        top = arrays[name].cast("B")[3::4].tobytes()
        if b"\x7f" in top or b"\xff" in top:
            raise ModelError(f"{path}: {name} holds a weight that is not a finite number")
