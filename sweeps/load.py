"""Sweeps from files: YAML, a shipped sweep by its name, or a Python function that returns one.

    scaling run my_sweep.yaml
    scaling run demo
    scaling run my_study.py:rates        # a function that returns a sweep, or a list of runs

A Python file is a program that the user runs; it is the only kind of file here that executes code.
"""

import runpy
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scaling.core.errors import UserError
from scaling.core.specs import load_yaml, parse_spec
from scaling.text.source import is_folder
from sweeps.dotted_fields import merged, set_field
from sweeps.settings import Run, RunSpec
from sweeps.spec import StudySpec, SweepSpec
from sweeps.study import StudyFile

NO_OVERRIDES: Mapping[str, Any] = MappingProxyType({})
FUNCTION = "sweep"
"""The function of a Python file where none is named."""
LADDER_ONLY = ("ladder", "target", "target_sizes", "columns", "branches", "tuning")
"""Fields of a ladder that a study which extends it does not take over."""


def load_sweep(name_or_path: str, overrides: Mapping[str, Any] = NO_OVERRIDES) -> SweepSpec | StudySpec:
    """A sweep from a file, or a shipped one by its name. Paths in a YAML file are relative to it. `overrides` are
    values of dotted fields, such as `optim.muon_lr`, that replace those of the file; paths in them are relative to the
    working directory.

    Raises UserError naming the file, or --set, and the field.
    """
    file, _, function = name_or_path.partition(":")
    if Path(file).suffix == ".py":
        return _overridden(_from_python(Path(file), function or FUNCTION), overrides)
    path = _path_of(name_or_path)
    document = _document(path)
    for name, value in overrides.items():
        document = _with_absolute_paths(Path(), _with_override(document, name, value))
    try:
        if "runs" in document:
            return parse_spec(StudyFile, document, str(path)).expand(str(path))
        return parse_spec(SweepSpec, document, str(path))
    except UserError as problem:
        raise _blamed_on_override(problem, path, overrides) from None


def shipped_sweeps() -> dict[str, Path]:
    """The sweeps that come with the package, by name."""
    entries = files("sweeps.shipped").iterdir()
    return {Path(entry.name).stem: Path(str(entry)) for entry in entries if entry.name.endswith(".yaml")}


def _path_of(name_or_path: str) -> Path:
    path, shipped = Path(name_or_path), shipped_sweeps()
    if name_or_path in shipped:  # even where a folder has that name, such as the demo's output
        return shipped[name_or_path]
    if not path.suffix and not path.is_file():
        raise UserError(f"{name_or_path}: no such sweep; shipped ones: {', '.join(sorted(shipped))}")
    return path


def _document(path: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The fields of a YAML file and of those that it extends, with absolute paths."""
    if path in extended_by:
        raise UserError(f"{path}: extends itself")
    document = load_yaml(path)
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a mapping of fields")
    document = _with_absolute_paths(path.parent, document)
    extended = document.pop("extends", None)
    if extended is None:
        return document
    relative_path = path.parent / str(extended)
    base = _document(relative_path if relative_path.is_file() else _path_of(str(extended)), (*extended_by, path))
    if "runs" in document:
        base = {name: value for name, value in base.items() if name not in LADDER_ONLY}
    return merged(base, document)


def _with_override(document: Mapping[str, Any], name: str, value: Any, prefix: str = "") -> dict[str, Any]:
    try:
        return set_field(document, f"{prefix}{name}", value)
    except ValueError as problem:
        raise UserError(f"--set {name}: {problem}") from None


def _blamed_on_override(problem: UserError, path: Path, overrides: Mapping[str, Any]) -> UserError:
    """The problem as one of --set, where the field that it names was set there."""
    text = str(problem).removeprefix(f"{path}: ")
    wrong = f"{text.partition(':')[0]}."
    if any(wrong.startswith(f"{field}.") or f"{field}.".startswith(wrong) for field in overrides):
        return UserError(f"--set {text}")
    return problem


def _with_absolute_paths(folder: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with absolute paths in place of those relative to `folder`."""
    result = dict(document)
    for section, keys in {"data": ("folder", "captions"), "text": ("encoder",)}.items():
        if isinstance(result.get(section), dict):
            result[section] = {
                key: str((folder / value).resolve()) if key in keys and _is_path(folder, key, value) else value
                for key, value in result[section].items()
            }
    return result


def _is_path(folder: Path, key: str, value: Any) -> bool:
    """Whether a field is a path. An encoder is one where it begins as one, or is a folder in `folder`; other encoders
    are names."""
    if not isinstance(value, str):
        return False
    return key != "encoder" or is_folder(value) or (value != "minilm" and (folder / value).is_dir())


def _from_python(path: Path, function: str) -> SweepSpec | StudySpec:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    names = runpy.run_path(str(path))
    if not callable(names.get(function)):
        raise UserError(f"{path}: has no function '{function}'; name another one as {path}:FUNCTION")
    result = names[function]()
    if isinstance(result, SweepSpec | StudySpec):
        return result
    if isinstance(result, list | tuple) and result and all(isinstance(run, Run | RunSpec) for run in result):
        runs = [run if isinstance(run, Run) else Run(spec=run) for run in result]
        return parse_spec(StudySpec, {"name": path.stem.replace("_", "-").lower(), "runs": runs}, str(path))
    raise UserError(f"{path}: {function}() returned {type(result).__name__}, expected a sweep or a list of runs")


def _overridden(sweep: SweepSpec | StudySpec, overrides: Mapping[str, Any]) -> SweepSpec | StudySpec:
    """A sweep with fields set; those that a study does not have itself are set in each of its runs."""
    document = sweep.model_dump(mode="json")
    for name, value in overrides.items():
        if isinstance(sweep, SweepSpec) or name.partition(".")[0] in StudySpec.model_fields:
            document = _with_override(document, name, value)
        else:
            document["runs"] = [_with_override(run, name, value, "spec.") for run in document["runs"]]
    return parse_spec(type(sweep), document, "--set") if overrides else sweep
