"""Making an object fit to be written, before anything is computed for it.

anndata reads more than it writes, and says what it cannot write only when it comes to it. Here every element except
large matrices of numbers is written to a file in memory first. What fails is converted where nothing is lost by that,
and otherwise left out.
"""

from __future__ import annotations

import datetime
import pathlib
import uuid
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from anndata.io import write_elem

from jaxvelo.configuration import logger

_SCALARS = (str, bool, int, float, complex, np.generic)
_MOMENTS = (datetime.date, datetime.time, datetime.timedelta, pd.Timedelta, pd.Period, pd.Interval)
_NOTHING = object()


def leave_out_unwritable(adata: AnnData) -> dict[tuple[str, Any], str]:
    """Convert or leave out what could not be written to an h5ad file, and say so in one log line each.

    What is converted keeps what it tells: moments and intervals become text, sets and tuples arrays, keys that are no
    text or hold a slash get another name. What is left out is warned of.

    Parameters
    ----------
    adata
        Changed in place. It is no view and not backed.

    Returns
    -------
    New names by slot and former name, as ``{("obs", "cell/type"): "cell_type"}``, for what refers to them.
    """
    trial = _Trial()
    if adata.raw is not None:
        # Public, and the only part of it that can be changed.
        _mend_frame(adata.raw.var, "raw.var", trial)
        if not (_is_plain(adata.raw.X) or trial.writes(adata.raw.X)) or not trial.writes(dict(adata.raw.varm)):
            logger.warning("Leaving out `raw`: its matrix or `raw.varm` cannot be written to an h5ad file")
            adata.raw = None
    for name in ("obs", "var"):
        _mend_frame(getattr(adata, name), name, trial)
    if adata.X is not None and not _is_plain(adata.X):
        mended = _mended(adata.X, "X", trial)
        adata.X = None if mended is _NOTHING else mended
    for name in ("layers", "obsm", "varm", "obsp", "varp"):
        _mend_mapping(getattr(adata, name), name, trial)
    adata.uns = _mended_dict(adata.uns, "uns", trial)
    return trial.renamed


class _Trial:
    """A file in memory to try what can be written, and a record of what got another name."""

    def __init__(self) -> None:
        self.renamed: dict[tuple[str, Any], str] = {}
        self._file = h5py.File(f"trial_{uuid.uuid4().hex}", "w", driver="core", backing_store=False)

    def writes(self, value: Any, key: str = "trial") -> bool:
        """Whether anndata writes the value."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                write_elem(self._file, key, value)
        except Exception:  # of any kind: each writer raises its own
            return False
        finally:
            for written in list(self._file):
                del self._file[written]
        return True

    def rename(self, where: str, name: Any, new: str) -> None:
        """Say and record a new name."""
        if new != name:
            logger.info("Renamed `%s[%r]` to %r, as it could not be written under its name", where, name, new)
            self.renamed[where, name] = new


def _mend_mapping(mapping: MutableMapping[Any, Any], where: str, trial: _Trial) -> None:
    """Mend the arrays of a slot of an AnnData, in place."""
    for key in [key for key in mapping if key is not None]:  # None is X, in anndata 0.13
        value = mapping[key]
        place = f"{where}[{key!r}]"
        mended = value if _is_plain(value) or _writes(value, trial) else _mended(value, place, trial)
        new = _text_key(key, [other for other in mapping if other != key])
        trial.rename(where, key, new)
        if mended is not value or new != key:
            del mapping[key]
            if mended is not _NOTHING:
                mapping[new] = mended


def _mended_dict(content: Mapping[Any, Any], where: str, trial: _Trial) -> dict[str, Any]:
    """Return a dictionary of all that can be written, at any depth."""
    result: dict[str, Any] = {}
    for key, value in content.items():
        place = f"{where}[{key!r}]"
        if isinstance(value, Mapping):
            mended: Any = _mended_dict(value, place, trial)
        else:
            mended = value if _is_plain(value) or _writes(value, trial) else _mended(value, place, trial)
        if mended is _NOTHING:
            continue
        new = _text_key(key, [*result, *(other for other in content if other is not key)])
        trial.rename(where, key, new)
        result[new] = mended
    return result


def _writes(value: Any, trial: _Trial) -> bool:
    """Whether a value is written, and reads as it was."""
    return trial.writes(value) and not (isinstance(value, pd.DataFrame) and _has_odd_columns(value))


def _mended(value: Any, where: str, trial: _Trial) -> Any:
    """Return what can be written in the place of a value, or ``_NOTHING``; and say which."""
    if isinstance(value, pd.DataFrame):
        frame = value.copy()
        _mend_frame(frame, where, trial)
        return frame
    for convert in _conversions(value):
        try:
            converted = convert()
        except Exception:  # of any kind: the values are of any kind
            continue
        if trial.writes(converted):
            logger.info("Converted `%s` from %s to %s, to be written", where, _kind(value), _kind(converted))
            return converted
    logger.warning("Leaving out `%s`: %s cannot be written to an h5ad file", where, _kind(value))
    return _NOTHING


def _conversions(value: Any) -> Iterator[Callable[[], Any]]:
    """What a value could be converted to without a loss, the likeliest first."""
    if isinstance(value, pd.Series):
        yield lambda: value.to_frame(name="value" if value.name is None else str(value.name))
        yield lambda: _column_as_text(value).to_frame(name="value" if value.name is None else str(value.name))
    elif isinstance(value, (pd.Index, pd.api.extensions.ExtensionArray, np.ma.MaskedArray)):
        yield lambda: np.asarray(value)
        yield lambda: _as_text(np.asarray(value))
    elif sp.issparse(value):
        yield lambda: value.tocsr()
    elif isinstance(value, np.ndarray):
        yield lambda: _as_numbers(value)
        yield lambda: _as_text(value)
    elif isinstance(value, (set, frozenset)):
        yield lambda: np.array(sorted(value))
        yield lambda: _as_text(_array_of_objects(sorted(value, key=str)))
    elif isinstance(value, (list, tuple, range)):
        if all(isinstance(item, (str, bool, int, float, np.generic)) for item in value):
            yield lambda: np.array(list(value))
        yield lambda: _as_text(_array_of_objects(list(value)))
    elif isinstance(value, (*_MOMENTS, pathlib.PurePath, *_SCALARS)):
        yield lambda: _text(value)
    elif isinstance(value, bytes):
        yield lambda: value.decode()


def _mend_frame(frame: pd.DataFrame, where: str, trial: _Trial) -> None:
    """Mend names and columns of a frame, in place."""
    if _writes(frame, trial):
        return
    if isinstance(frame.index, pd.MultiIndex) or not trial.writes(frame[[]]):
        frame.index = pd.Index([str(name) for name in frame.index], dtype=object)
        logger.info("Converted the index of `%s` to text, to be written", where)
    _drop_copies_of_the_index(frame, where)
    _rename_columns(frame, where, trial)
    if frame.index.name in frame.columns and not trial.writes(frame[[frame.index.name]]):
        logger.info(
            "Took away the name %r of the index of `%s`, which a column with other values has", frame.index.name, where
        )
        frame.index.name = None
    for name in frame.columns:
        column = frame[name]
        is_text = column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) == "string"
        # Text with gaps in these becomes categories when anndata writes them.
        if trial.writes(column.to_frame()) or (is_text and where in ("obs", "var", "raw.var")):
            continue
        converted = _mended_column(column, trial)
        place = f"{where}[{name!r}]"
        if converted is None:
            logger.warning("Leaving out `%s`: %s cannot be written to an h5ad file", place, _kind(column))
            del frame[name]
            continue
        logger.info("Converted `%s` from %s to %s, to be written", place, _kind(column), _kind(converted))
        frame[name] = converted


def _drop_copies_of_the_index(frame: pd.DataFrame, where: str) -> None:
    """Leave out a column `_index`, a name that anndata keeps for itself, if it says what the index says."""
    if list(frame.columns).count("_index") == 1 and list(map(str, frame["_index"])) == list(map(str, frame.index)):
        logger.info("Leaving out `%s['_index']`, a name that cannot be written: it equals the index", where)
        del frame["_index"]


def _rename_columns(frame: pd.DataFrame, where: str, trial: _Trial) -> None:
    """Give columns names that can be written and are unique."""
    names: list[str] = []
    rest = list(frame.columns)
    for name in frame.columns:
        rest = rest[1:]
        new = _text_key(name, [*names, *rest], reserved=("_index",))
        if new in names:
            new = _free(new, [*names, *rest])
        trial.rename(where, name, new)
        names.append(new)
    if names != list(frame.columns):
        frame.columns = pd.Index(names, name=frame.columns.name)


def _mended_column(column: pd.Series, trial: _Trial) -> pd.Series | None:
    """Return the column in a type that can be written, or None."""
    for convert in (_column_as_numbers, _column_as_text):
        try:
            converted = convert(column)
        except Exception:  # of any kind: the values are of any kind
            continue
        if trial.writes(converted.to_frame()):
            return converted
    return None


def _column_as_numbers(column: pd.Series) -> pd.Series:
    """Numbers and truth values in one of NumPy's types, or in one of pandas' with gaps."""
    if isinstance(column.dtype, pd.SparseDtype):
        return column.sparse.to_dense()
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind == "boolean":
        return column.astype("boolean")
    if kind == "integer":
        return column.astype("Int64")
    if kind in ("floating", "mixed-integer-float"):
        return pd.Series(column.to_numpy(dtype=float, na_value=np.nan), index=column.index, name=column.name)
    raise ValueError


def _column_as_text(column: pd.Series) -> pd.Series:
    """Text in the place of each value, gaps where there are gaps; categories stay categories."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        categories = pd.Index([_text(value) for value in column.cat.categories], dtype=object)
        if not categories.is_unique:  # 1 and "1"
            raise ValueError
        return column.cat.rename_categories(categories)
    missing = column.isna().to_numpy()
    values = [None if gap else _text(value) for value, gap in zip(column, missing, strict=True)]
    text: Any = np.array(values, dtype=object)
    if missing.any():
        text = pd.Categorical(text)
    return pd.Series(text, index=column.index, name=column.name)


def _as_numbers(array: np.ndarray) -> np.ndarray:
    """Numbers that are stored as objects."""
    if array.dtype != object or not all(isinstance(x, (bool, int, float, np.number)) for x in array.ravel()):
        raise ValueError
    kinds = {type(x) for x in array.ravel()}
    return array.astype(kinds.pop()) if len(kinds) == 1 else array.astype(float)


def _as_text(array: np.ndarray) -> np.ndarray:
    """Text in the place of each value."""
    if array.dtype.kind in "mM":
        return array.astype(str).astype(object)
    text = np.empty(array.shape, dtype=object)
    for position, value in np.ndenumerate(array):
        text[position] = _text(value)
    return text


def _text(value: Any) -> str:
    """Text of one value that is no collection; raises for what text would not tell."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if value is None or isinstance(value, (*_SCALARS, *_MOMENTS, pathlib.PurePath)):
        return str(value)
    raise ValueError


def _array_of_objects(values: Collection[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array


def _is_plain(value: Any) -> bool:
    """Whether a matrix can be written for certain, so that a large one need not be tried."""
    is_stored = type(value) is np.ndarray or (sp.issparse(value) and value.format in ("csr", "csc"))
    return is_stored and value.dtype.kind in "biuf"


def _has_odd_columns(frame: pd.DataFrame) -> bool:
    return any(_text_key(name, (), reserved=("_index",)) != name for name in frame.columns)


def _text_key(key: Any, taken: Collection[Any], reserved: Collection[str] = ()) -> str:
    """Return the key, or one close to it that HDF5 takes and nothing else has."""
    text = str(key)
    for character in ("/", "\0"):  # a slash makes a group in HDF5, a zero ends the name
        text = text.replace(character, "_")
    if text in ("", ".", "..") or text in reserved:
        text = f"{text.replace('.', '_')}_"
    return text if text == key else _free(text, taken)


def _free(name: str, taken: Collection[Any]) -> str:
    """Return the name, with more underscores if something has it."""
    while name in taken:
        name += "_"
    return name


def _kind(value: Any) -> str:
    """Name the type of a value for a message."""
    if isinstance(value, pd.Series):
        if value.dtype == object:
            return f"a column of {_kinds(value)}"
        if isinstance(value.dtype, pd.CategoricalDtype):
            return f"a column of categories of {pd.api.types.infer_dtype(value.cat.categories, skipna=True)}"
        return f"a column of {value.dtype}"
    if isinstance(value, np.ndarray):
        return f"an array of {_kinds(value.ravel()) if value.dtype == object else value.dtype}"
    return f"a value of type {type(value).__name__}"


def _kinds(values: Iterable[Any]) -> str:
    return ", ".join(sorted({type(value).__name__ for value in values})[:4])
