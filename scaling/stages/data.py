"""Stage `data`: makes procedural worlds or takes a user's folder of videos, and cuts the videos into clips.

Makes clips.jsonl, which all other stages read (`scaling.data.clip_list`); index.json, which says what every video file
holds and which ones cannot be used; and, for worlds, videos/.
"""

from functools import partial
from pathlib import Path

from scaling.core.errors import UserError
from scaling.core.events import Events
from scaling.core.records import RunRecord
from scaling.core.stage import Stage
from scaling.core.stage_fields import DataFields
from scaling.core.stage_folder import StageFolder
from scaling.data.clip_list import ClipList
from scaling.data.clips import cut_clips, leave_out_unusable
from scaling.data.file_versions import FileVersion
from scaling.data.holdout import held_out_ordinals
from scaling.data.index import Index, index_folder
from scaling.data.world_files import make_worlds

CLIPS = "clips.jsonl"
INDEX = "index.json"


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    """Raises UserError where the folder has no usable videos, or where it has changed since the plan."""
    fields = stage.fields_as(DataFields)
    spec = fields.data
    videos = videos_folder(folder, stage)
    captions = None
    if spec.worlds is not None:
        make_worlds(videos, spec.worlds, partial(events.progress, doing="making"))
    elif stage.captions:
        captions = Path(stage.captions)
    index = index_folder(videos, captions, spec.images, partial(events.progress, doing="indexing"))
    if fields.manifest is not None and index.manifest != fields.manifest:
        raise UserError(f"{videos}: its videos or captions have changed since the plan; run the command again")
    index = leave_out_unusable(index, spec)
    index.save(folder.path / INDEX)
    clips = cut_clips(index, spec)
    copies = {videos / copy: videos / original for copy, original in index.copies.items()}
    clip_list = ClipList(videos, index.manifest, clips, held_out_ordinals(clips, spec.holdout_every, copies))
    clip_list.write(folder.path / CLIPS)
    summary = index.summary()
    return RunRecord(
        run_id=stage.id,
        stage="data",
        data_id=stage.id,
        unique_clips=len(clip_list.training),
        shape={
            "clips": len(clips),
            "held_out": len(clip_list.held_out),
            "videos": summary["videos"],
            "skipped": len(summary["skipped"]),
            "hours": summary["hours"],
            "sizes": len(summary["shapes"]),
        },
    )


def load_clips(folder: StageFolder) -> ClipList:
    """The clips of a complete `data` stage. The files of a user's folder are checked when they are read, because they
    may have been replaced. Raises UserError where clips.jsonl or index.json is missing or broken."""
    stage = folder.stage()
    videos = videos_folder(folder, stage)
    if stage.fields_as(DataFields).data.worlds is not None:
        return ClipList.read(folder.path / CLIPS, videos)
    files = Index.load(folder.path / INDEX).files
    versions = {file.file: FileVersion(file.bytes, file.modified_ns, file.sha256) for file in files}
    return ClipList.read(folder.path / CLIPS, videos, versions)


def videos_folder(folder: StageFolder, stage: Stage) -> Path:
    """Where the video files of a `data` stage are: in its own folder or, now, in the user's."""
    return folder.path / "videos" if stage.fields_as(DataFields).data.worlds is not None else Path(stage.folder)
