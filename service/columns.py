"""The seven result columns, for blocks of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loopwise.errors import UsageError
from loopwise.model.batch import MAX_ROWS, BatchScorer
from loopwise.model.labels import AXES, Axis
from loopwise.model.review import REASON_TEXTS, reason_code
from loopwise.model.scorer import MAX_TEXT_LENGTH
from loopwise.service.textcolumns import find_text_columns, join_parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from loopwise.service.predictor import Predictor

#: What `classify`, `predict_frame` and their kin add, in this order.
RESULT_COLUMNS: Final = (
    "loop",
    "loop_confidence",
    "mode",
    "mode_confidence",
    "review",
    "route",
    "top_features",
)
#: Features named in a column, per axis.
COLUMN_FEATURES: Final = 3
_MICRO: Final = 1_000_000


class ColumnMaker:
    """Makes the result columns with one predictor; threads may share it."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._scorer = BatchScorer(predictor.model)
        self._reviews = pa.array(REASON_TEXTS)
        table = predictor.routes.table
        self._routes = pa.array([table[a, b].name for a in AXES["loop"] for b in AXES["mode"]])

    def columns(self, texts: pa.Array) -> pa.Table:
        """Return the seven columns for a string array of any length; nulls count as empty."""
        blocks = [self._block(texts[i : i + MAX_ROWS]) for i in range(0, max(len(texts), 1), MAX_ROWS)]
        return pa.concat_tables(blocks)

    def _block(self, texts: pa.Array) -> pa.Table:
        texts = _cut(pc.fill_null(texts, ""))
        score = self._scorer.score(texts)
        loop, loop_conf, low_loop = self._answer("loop", score.loop)
        mode, mode_conf, low_mode = self._answer("mode", score.mode)
        code = reason_code(
            score.n_words,
            score.n_known,
            score.n_english,
            score.n_foreign,
            score.scope > 0,
            low_loop,
            low_mode,
        )
        features = pc.binary_join_element_wise(
            "loop: ",
            score.top_features("loop", ~loop, COLUMN_FEATURES),
            " | mode: ",
            score.top_features("mode", ~mode, COLUMN_FEATURES),
            "",
        )
        return pa.table(
            [
                pa.array(AXES["loop"]).take(pa.array(loop.astype(np.int8))),
                _decimals(loop_conf),
                pa.array(AXES["mode"]).take(pa.array(mode.astype(np.int8))),
                _decimals(mode_conf),
                self._reviews.take(pa.array(code)),
                self._routes.take(pa.array(2 * loop + mode)),
                features,
            ],
            names=list(RESULT_COLUMNS),
        )

    def _answer(
        self, axis: Axis, scores: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.bool_]]:
        """Return whether the label is the second class, its confidence, and whether that is too low."""
        settings = self._predictor.settings
        second = scores > 0
        z = scores + settings.offset(axis)
        conf = 1 / (1 + np.exp(np.where(second, -z, z)))
        of_first, of_second = (settings.thresholds[axis][label] for label in AXES[axis])
        return second, conf, conf < np.where(second, of_second, of_first)

    def predict_frame(self, frame: Any, text: str | Sequence[str] | None = None) -> Any:
        """Return a copy of `frame` with the result columns added (see `Predictor.predict_frame`)."""
        module = type(frame).__module__.partition(".")[0]
        names = [str(name) for name in (frame.column_names if module == "pyarrow" else frame.columns)]
        wanted = [text] if isinstance(text, str) else text
        chosen = find_text_columns(names, wanted)
        taken = [name for name in RESULT_COLUMNS if name in names]
        if taken:
            raise UsageError(
                f"the frame already has the column{'s' * (len(taken) > 1)} {', '.join(taken)}; "
                "drop or rename first"
            )
        if module == "pandas":
            parts = [_strings(frame.iloc[:, names.index(name)].tolist()) for name in chosen]
            added = self._typed(join_parts(parts, len(frame)))
            return frame.assign(**{name: added[name].to_pylist() for name in RESULT_COLUMNS})
        table = frame if isinstance(frame, pa.Table) else pa.table(frame)
        parts = [_strings(table.column(names.index(name)).to_pylist()) for name in chosen]
        added = self._typed(join_parts(parts, table.num_rows))
        for name in RESULT_COLUMNS:
            table = table.append_column(name, added[name])
        if module == "polars":
            import polars

            return polars.from_arrow(table)
        return table

    def map_batch(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Return the result columns for a batch of columns (see `Predictor.map_batch`)."""
        names = list(batch)
        chosen = find_text_columns(names, None)
        n_rows = len(batch[names[0]]) if names else 0
        added = self._typed(join_parts([_strings(batch[name]) for name in chosen], n_rows))
        return {name: added[name].to_pylist() for name in RESULT_COLUMNS}

    def _typed(self, texts: pa.Array) -> pa.Table:
        """As `columns`, with confidences as numbers."""
        table = self.columns(texts)
        for name in ("loop_confidence", "mode_confidence"):
            at = table.column_names.index(name)
            table = table.set_column(at, name, table[name].cast(pa.float64()))
        return table


def _cut(texts: pa.Array) -> pa.Array:
    """Cut texts to `MAX_TEXT_LENGTH` characters, as the single predictor does."""
    if (pc.max(pc.binary_length(texts)).as_py() or 0) <= MAX_TEXT_LENGTH:
        return texts
    return pc.utf8_slice_codeunits(texts, 0, MAX_TEXT_LENGTH)


def _strings(values: Sequence[Any]) -> pa.Array:
    """Return any cells as a string array; missing ones are empty, lone surrogates become U+FFFD."""
    texts = [value if type(value) is str else "" if _is_missing(value) else str(value) for value in values]
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:
        return pa.array([t.encode("utf-8", "replace").decode() for t in texts], pa.string())


def _is_missing(value: Any) -> bool:
    """Whether a cell is None, NaN, NaT or pandas' NA, which has no truth value."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def _decimals(values: NDArray[np.float64]) -> pa.Array:
    """Return probabilities as text with six decimals, strictly between 0 and 1."""
    micro = np.clip(np.rint(values * _MICRO), 1, _MICRO - 1).astype(np.int64)
    digits = pa.array(micro + _MICRO).cast(pa.string())
    return pc.binary_replace_slice(digits, 0, 1, "0.")
