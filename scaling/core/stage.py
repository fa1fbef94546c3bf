"""A stage: one content-addressed step of the data flow.

data -> vae -> latents -> dit -> metrics      (reference: the real clips' side of the metrics)
        vae -> reconstruction                 (the VAE by the same metrics)
               latents -> trunk -> dit        (a trunk is the beginning that several runs share)
"""

from functools import cached_property
from typing import TypeVar

from pydantic import Field

from scaling.core.identity import stage_id
from scaling.core.label import Label
from scaling.core.specs import EngineSpec, Spec
from scaling.core.stage_fields import Fields

F = TypeVar("F", bound=Spec)


class Stage(Label):
    """One step: what to do (`fields`), from what (`parents`), and, not hashed, for whom and with how much machine."""

    slug: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    """The readable part of the id."""
    fields: Fields
    parents: dict[str, str] = {}
    """The role of each stage that this one needs, and that stage's id."""
    folder: str = ""
    """Where a user's videos are, or a user's text encoder. Not hashed: `manifest` says what they are."""
    captions: str = ""
    """Where a user's captions are, if not with the videos."""
    engine: EngineSpec = EngineSpec()
    """Not hashed: no result depends on it, except in the last bits."""

    @cached_property
    def id(self) -> str:
        """The slug and a hash of the semantic fields, the parents' ids and the recipe version."""
        return stage_id(self.slug, self.fields, self.parents)

    @property
    def kind(self) -> str:
        """The kind of the stage, which is the name of its module in `scaling.stages`."""
        return self.fields.kind

    @property
    def label(self) -> Label:
        """For whom the stage is done."""
        return Label(**{name: getattr(self, name) for name in Label.model_fields})

    def fields_as(self, kind: type[F]) -> F:
        """The fields, known to be of this class."""
        assert isinstance(self.fields, kind), f"{self.id} is a {self.kind} stage, not one with {kind.__name__}"
        return self.fields
