"""Stage `data`: makes the worlds, or takes a user's folder, and indexes it. Makes index.json (and videos/)."""

from functools import partial
from pathlib import Path

from scaling.core.errors import UserError
from scaling.core.records import RunRecord
from scaling.core.specs import DataSpec
from scaling.core.stage import DataFields, Events, Stage, StageFolder
from scaling.data.clips import list_clips, split
from scaling.data.index import Index, index_folder
from scaling.data.make import make_worlds


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    """Raises UserError where the folder has no usable videos or no longer is what was planned."""
    fields = stage.fields_as(DataFields)
    spec = fields.data
    if spec.worlds is not None:
        source = folder.path / "videos"
        make_worlds(source, spec.worlds, partial(events.progress, doing="making"))
        captions = None
    else:
        source = Path(stage.folder)
        captions = Path(stage.captions) if stage.captions else None
    index = index_folder(source, captions, spec.images, partial(events.progress, doing="indexing"))
    if fields.manifest is not None and index.manifest != fields.manifest:
        raise UserError(f"{source}: its videos or captions have changed since the plan; run the command again")
    clips = list_clips(index, spec)
    train, _ = split(clips, spec.holdout_every)
    index.save(folder.path / "index.json")
    return RunRecord(
        run_id=stage.id,
        stage="data",
        data_id=stage.id,
        unique_clips=len(train),
        shape={"clips": len(clips), "held_out": len(clips) - len(train), **index.summary()},
    )


def load_index(folder: StageFolder) -> tuple[Index, DataSpec]:
    """The index that a complete `data` stage made, and the spec of its clips."""
    stage = folder.stage()
    fields = stage.fields_as(DataFields)
    index = Index.load(folder.path / "index.json")
    # The folder may have moved since.
    where = folder.path / "videos" if fields.data.worlds is not None else Path(stage.folder)
    return index.replace(folder=str(where)), fields.data
