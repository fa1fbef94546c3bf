"""The reference of every field of a sweep, made from the code.

python -m sweeps.field_reference > docs/fields.md
"""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic_core import PydanticUndefined

from scaling.core.specs import Spec
from sweeps.spec import SweepSpec
from sweeps.study import StudyFile

INTRODUCTION = """# Every field of a sweep

Made from the code by `python -m sweeps.field_reference > docs/fields.md`. A field without a default must be given.
`--set section.field=value` sets one on the command line, and `vary` of a study varies any field of a run.
"""


def reference() -> str:
    """The page in Markdown: a table for each spec, in the order in which they are reached from a ladder and a study."""
    return "\n".join([INTRODUCTION, *(_section(spec) for spec in _specs())]) + "\n"


def _specs() -> list[type[Spec]]:
    specs: dict[type[Spec], None] = {}
    waiting: list[type[Spec]] = [SweepSpec, StudyFile]
    while waiting:
        spec = waiting.pop(0)
        if spec not in specs:
            specs[spec] = None
            waiting += [inner for field in spec.model_fields.values() for inner in _specs_in(field.annotation)]
    return list(specs)


def _specs_in(annotation: Any) -> Iterator[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for part in get_args(annotation):
        yield from _specs_in(part)


def _section(spec: type[Spec]) -> str:
    lines = [f"## {spec.__name__}", "", _line(spec.__doc__ or ""), "", "| field | default | meaning |", "|---|---|---|"]
    for name, field in spec.model_fields.items():
        if name != "kind":  # follows from the other fields
            lines.append(f"| `{name}` | {_default(field.default)} | {_line(field.description or '')} |")
    return "\n".join([*lines, ""])


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return ""
    if isinstance(value, Spec):
        return f"see {type(value).__name__}"
    if value is None:
        return "`null`"
    if isinstance(value, tuple) and any(isinstance(item, Spec) for item in value):
        return f"see {type(value[0]).__name__}"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
