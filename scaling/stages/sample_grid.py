"""The sample grid of a run: the same prompts from the same noise, sampled several times in the course of the
training."""

from collections import Counter
from collections.abc import Sequence

import torch

from scaling.core.stage_fields import DataFields, DiTFields
from scaling.core.stage_folder import StageFolder
from scaling.core.store import write_document
from scaling.core.streams import Stream
from scaling.data.video import write_video
from scaling.diffusion.inference import decode, load_vae
from scaling.diffusion.latents import LatentSet
from scaling.diffusion.sampling import Sampler, sample
from scaling.distributed.devices import current_device
from scaling.models.dit import DiT
from scaling.text.load import load_text_encoder


class SampleGrid:
    """Writes samples/prompts.json and samples/at-<share>/<number>.mp4, one video for each prompt."""

    def __init__(self, folder: StageFolder, fields: DiTFields) -> None:
        """The prompts are those of `fields.evaluation`, at the most frequent size of the held-out clips; or, where it
        has none, the captions of the first held-out clips, at the sizes of those clips."""
        latents = folder.parent("latents")
        held_out = LatentSet(latents.path, held_out=True, patch=fields.dit.patch)
        self.folder, self.dit, self.evaluation, self.held_out = folder, fields.dit, fields.evaluation, held_out
        self.vae = load_vae(folder.parent("vae"))
        self.fps = latents.parent("data").stage().fields_as(DataFields).data.fps
        if fields.evaluation.prompts:
            self.prompts = list(fields.evaluation.prompts)
            self.captions = load_text_encoder(latents.stage()).encode(self.prompts, held_out.text_tokens)
            shapes = Counter(held_out.shape(clip) for clip in range(len(held_out)))
            self.shapes = [shapes.most_common(1)[0][0]] * len(self.prompts)
        else:
            clips = _clips_of_different_captions(held_out, fields.evaluation.prompt_count)
            self.prompts = [held_out.caption(clip) for clip in clips]
            self.captions = held_out.text.rows([held_out.entries[clip]["caption"] for clip in clips])
            self.shapes = [held_out.shape(clip) for clip in clips]

    def write(self, shares: Sequence[float], weights: dict[str, torch.Tensor]) -> None:
        """Samples with averaged weights and writes the videos, once for each of these shares of the training, which
        are all reached after the same update."""
        model = DiT(self.dit, self.held_out.channels, self.held_out.text_dim)
        model.load_state_dict(weights)
        model.to(current_device()).eval()
        seed = self.evaluation.seed
        document = [{"text": text, "seed": seed + number} for number, text in enumerate(self.prompts)]
        write_document(self.folder.samples_path / "prompts.json", document)
        for number, shape in enumerate(self.shapes):
            latents = sample(
                model,
                self.captions.rows([number]),
                shape,
                [(seed + number, Stream.GRID)],
                Sampler.from_spec(self.evaluation),
            )
            frames = decode(self.vae, latents * self.held_out.std + self.held_out.mean)[0]
            for share in shares:
                write_video(self.folder.samples_after(share) / f"{number:02d}.mp4", frames, self.fps)


def _clips_of_different_captions(data: LatentSet, count: int) -> list[int]:
    """The first clips whose captions differ."""
    first_clips: dict[str, int] = {}
    for clip in range(len(data)):
        first_clips.setdefault(data.caption(clip), clip)
    return list(first_clips.values())[:count]
