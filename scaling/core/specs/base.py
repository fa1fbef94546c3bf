"""What every spec has in common: frozen, validated values, read from documents with clear errors."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from scaling.core.errors import UserError


class Spec(BaseModel):
    """The base of every spec: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated like any other spec. Raises ValidationError, a ValueError, where a
        field is unknown or its value not allowed."""
        return type(self).model_validate({name: getattr(self, name) for name in type(self).model_fields} | changes)


S = TypeVar("S", bound=Spec)


def parse_spec(kind: type[S], mapping: Any, where: str) -> S:
    """Builds a spec from what a YAML or JSON file held; `where` names that file in errors.

    Raises UserError with one line that names the file, the field, and the nearest known field if it is unknown.
    """
    if not isinstance(mapping, Mapping):
        raise UserError(f"{where}: expected a mapping of fields, found {type(mapping).__name__}")
    try:
        return kind.model_validate(dict(mapping))
    except ValidationError as error:
        raise UserError(f"{where}: {_first_problem(kind, error)}") from None


def load_yaml(path: Path) -> Any:
    """Reads a YAML file. Raises UserError where it is missing or is not YAML."""
    import yaml  # most commands read none

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, expected a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def _first_problem(kind: type[Spec], error: ValidationError) -> str:
    # A misspelt field is also a missing one: say the misspelling.
    problem = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = list(_model_at(kind, problem["loc"][:-1]).model_fields)
        close_names = get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean '{close_names[0]}'?" if close_names else f"known fields: {', '.join(known)}"
        return f"{field}: unknown field; {hint}"
    message = problem["msg"].removeprefix("Value error, ")
    value = "" if problem["type"] in ("missing", "value_error") else f" (found {problem['input']!r})"
    return f"{field}: {message}{value}" if field else f"{message}{value}"


def _model_at(kind: type[Spec], path: tuple[str | int, ...]) -> type[Spec]:
    """The model class that holds a nested field, so that its own field names can be suggested."""
    for part in path:
        if isinstance(part, int) or part not in kind.model_fields:
            continue
        kind = next((c for c in _classes(kind.model_fields[part].annotation)), kind)
    return kind


def _classes(annotation: Any) -> list[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return [annotation]
    return [class_ for part in getattr(annotation, "__args__", ()) for class_ in _classes(part)]
