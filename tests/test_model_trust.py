from __future__ import annotations

import json
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from loopwise import ModelError, Predictor
from loopwise.model.batch import BatchScorer
from loopwise.model.modelfile import (
    FIELDS_NAME,
    LINEAGE_NAME,
    MAX_FIELDS_BYTES,
    MAX_WEIGHTS_BYTES,
    WEIGHTS_NAME,
    ModelFile,
    signed,
)
from tests.conftest import SOAK
from tests.retraining import signed_copy

BYTES = 400 if SOAK else 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that loads."""
    folder = signed_copy(tmp_path_factory.mktemp("whole"))
    assert Predictor.load(folder).predict("Fix the flaky test").loop.label == "code"
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in whole.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def resign(folder: Path, weights: bytes | None = None, **fields: Any) -> None:
    """Sign a changed model, as somebody would who knows how."""
    old = json.loads((folder / FIELDS_NAME).read_text("utf-8"))
    data = (folder / WEIGHTS_NAME).read_bytes() if weights is None else weights
    (folder / WEIGHTS_NAME).write_bytes(data)
    (folder / FIELDS_NAME).write_bytes(signed({**old, **fields}, {WEIGHTS_NAME: data}))


@pytest.mark.parametrize("name", [FIELDS_NAME, WEIGHTS_NAME])
def test_a_changed_byte_anywhere_is_refused(copy: Path, name: str) -> None:
    path = copy / name
    original = path.read_bytes()
    rng = random.Random(7)
    places = [0, len(original) - 1, *(rng.randrange(len(original)) for _ in range(BYTES))]
    for at in places:
        changed = bytearray(original)
        changed[at] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(ModelError) as refused:
            ModelFile.load(copy)
        assert str(path) in str(refused.value)


@pytest.mark.parametrize("name", [FIELDS_NAME, WEIGHTS_NAME])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_file_cut_short_is_refused(copy: Path, name: str, share: float) -> None:
    path = copy / name
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelError, match=str(path)):
        ModelFile.load(copy)


@pytest.mark.parametrize(
    ("name", "limit"), [(FIELDS_NAME, MAX_FIELDS_BYTES), (WEIGHTS_NAME, MAX_WEIGHTS_BYTES)]
)
def test_an_oversized_file_is_refused_unread(copy: Path, name: str, limit: int) -> None:
    with (copy / name).open("r+b") as file:
        file.truncate(limit + 1)
    with pytest.raises(ModelError, match=str(limit)):
        ModelFile.load(copy)


@pytest.mark.parametrize("name", [FIELDS_NAME, WEIGHTS_NAME])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ModelError, match=f"{name}: cannot be read"):
        ModelFile.load(copy)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "x/../../y", "more.bin"])
def test_a_part_that_leaves_the_folder_is_refused(copy: Path, name: str) -> None:
    fields = json.loads((copy / FIELDS_NAME).read_text("utf-8"))
    data = (copy / WEIGHTS_NAME).read_bytes()
    (copy / FIELDS_NAME).write_bytes(signed(fields, {WEIGHTS_NAME: data, name: b"x"}))
    with pytest.raises(ModelError, match=r"names the part .*; a model has no other than"):
        ModelFile.load(copy)


@pytest.mark.parametrize("version", [0, 2, 99, "1", None, [1]])
def test_an_unknown_format_version_says_what_to_do(tmp_path: Path, version: Any) -> None:
    folder = signed_copy(tmp_path / "m", lambda fields: fields.update(format_version=version))
    with pytest.raises(ModelError, match=r"format version .* Retrain with: loopwise train"):
        ModelFile.load(folder)


def test_an_unsigned_model_is_refused(copy: Path) -> None:
    fields = json.loads((copy / FIELDS_NAME).read_text("utf-8"))
    del fields["sha256"][FIELDS_NAME]
    (copy / FIELDS_NAME).write_text(json.dumps(fields))
    with pytest.raises(ModelError, match="its SHA-256 is not the one that it names"):
        ModelFile.load(copy)


@pytest.mark.parametrize("array", ["word_values", "pair_values", "bucket_values", "cue_values"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_refused(copy: Path, array: str, value: float) -> None:
    arrays = load((copy / WEIGHTS_NAME).read_bytes())
    arrays[array] = arrays[array].copy()
    arrays[array][len(arrays[array]) // 2, 1] = value
    resign(copy, save(arrays))
    with pytest.raises(ModelError, match=f"{array} holds a weight that is not a finite number"):
        ModelFile.load(copy)


def test_word_offsets_that_run_backwards_are_refused(copy: Path) -> None:
    arrays = load((copy / WEIGHTS_NAME).read_bytes())
    offsets = arrays["word_offsets"].copy()
    offsets[5] = 2**31
    resign(copy, save({**arrays, "word_offsets": offsets}))
    with pytest.raises(ModelError, match="the arrays do not fit each other"):
        ModelFile.load(copy)


class _Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, (f"open({str(self.mark)!r}, 'w').close()",))


@pytest.mark.parametrize("name", [FIELDS_NAME, WEIGHTS_NAME, LINEAGE_NAME, "model.pkl", "pipeline.joblib"])
def test_a_pickle_is_never_opened(copy: Path, tmp_path: Path, name: str) -> None:
    mark = tmp_path / "boom"
    bomb = pickle.dumps(_Bomb(mark))
    assert pickle.loads(bomb) is None
    assert mark.exists()
    mark.unlink()
    (copy / name).write_bytes(bomb)
    try:
        Predictor.load(copy).predict("Fix the test")
        ModelFile.load(copy).lineage()
    except ModelError:
        assert name in (FIELDS_NAME, WEIGHTS_NAME)
    else:
        assert name not in (FIELDS_NAME, WEIGHTS_NAME)
    assert not mark.exists()


def test_a_changed_lineage_is_refused(copy: Path) -> None:
    fields = json.loads((copy / FIELDS_NAME).read_text("utf-8"))
    parts = {WEIGHTS_NAME: (copy / WEIGHTS_NAME).read_bytes(), LINEAGE_NAME: b'{"parent": "shipped"}'}
    (copy / FIELDS_NAME).write_bytes(signed(fields, parts))
    (copy / LINEAGE_NAME).write_bytes(parts[LINEAGE_NAME])
    assert ModelFile.load(copy).lineage() == {"parent": "shipped"}
    (copy / LINEAGE_NAME).write_bytes(b'{"parent": "shippes"}')
    with pytest.raises(ModelError, match="its SHA-256 is not the one in"):
        ModelFile.load(copy).lineage()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def paths_of(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [before, *(path for key, part in inner for path in paths_of(part, (*before, key)))][
        0 if before else 1 :
    ]


@settings(
    max_examples=1500 if SOAK else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_fields_changed_by_somebody_who_can_sign_load_and_predict_or_are_refused(
    copy: Path, data: st.DataObject
) -> None:
    original = (copy / FIELDS_NAME).read_bytes()
    try:
        fields = json.loads(original)
        serving = {name: fields[name] for name in ("axes", "scope", "prior", "format_version", "corpus")}
        *way, last = data.draw(st.sampled_from(paths_of(serving)))
        place = fields
        for key in way:
            place = place[key]
        if data.draw(st.booleans()):
            place[last] = data.draw(json_values)
        else:
            del place[last]
        resign(copy, **{name: fields.get(name) for name in serving if name in fields})
        answer = Predictor.load(copy).predict("Fix the flaky test")
        assert 0 <= answer.loop.confidence <= 1
        assert 0 <= answer.mode.confidence <= 1
    except ModelError as error:
        assert str(copy) in str(error)
    finally:
        (copy / FIELDS_NAME).write_bytes(original)


@settings(
    max_examples=600 if SOAK else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_weights_changed_by_somebody_who_can_sign_score_or_are_refused(
    copy: Path, data: st.DataObject
) -> None:
    original = (copy / WEIGHTS_NAME).read_bytes()
    header = 8 + int.from_bytes(original[:8], "little")
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, header - 1), st.integers(0, len(original) - 1)))
        changed[at] = data.draw(st.integers(0, 255))
    resign(copy, bytes(changed))
    try:
        model = ModelFile.load(copy)
        Predictor(model).predict("Fix the flaky test of the kernel module")
        BatchScorer(model).score(pa.array(["Fix the flaky test of the kernel module", ""], pa.string()))
    except ModelError as error:
        assert str(copy) in str(error)
    finally:
        resign(copy, original)


@given(noise=st.binary(max_size=200))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_is_no_model(copy: Path, noise: bytes) -> None:
    (copy / FIELDS_NAME).write_bytes(noise)
    with pytest.raises(ModelError):
        ModelFile.load(copy)
