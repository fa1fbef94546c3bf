"""Videos from a trained run: from a prompt alone, on from given pictures or up to them, or by editing. Pictures in and
out; how the flow is integrated is in `scaling.diffusion.sampling`.

The VAE is causal: the first latent of a clip stands for one frame, every other for four. So what can be given is this:

- What comes after a video: its last 1 + 4k frames are encoded as a clip of their own and become the first 1 + k latents
  of the clip that is drawn, in the very form in which training gave them. All that the model knows of the video is
  these frames. At the joint, the video's own pictures meet the decoder's: motion goes on, but sharpness and
  colour change at once by as much as the VAE loses.
- What comes before a video: its first 1 + 4k frames are encoded likewise, but the first of these latents stands for one
  frame, and no such latent is found inside a clip. So only the k others are given, at the end. They do not hold the
  video's first frame, but only what its successors tell of it; the last frame that the model draws is its own idea of
  that first frame, and makes room for the true one. And they were encoded without the past that is now drawn
  for them. So this joint is the weaker one: beside the change of sharpness, things may jump a little.
"""

from dataclasses import dataclass

from torch import Tensor

from scaling.accounting.geometry import latent_size
from scaling.core.stage import DiTFields, StageFolder
from scaling.core.streams import Stream
from scaling.data.video import Frames
from scaling.diffusion.inference import decode, encode, load_dit, load_vae
from scaling.diffusion.latents import LatentSet
from scaling.diffusion.sampling import ConditioningFrames, Edit, Sampler, sample
from scaling.distributed.devices import current_device
from scaling.text.load import load_text_encoder


@dataclass(frozen=True)
class SampleRequest:
    """One clip to draw."""

    prompt: str
    seed: int
    frames: int
    """1 + 4k, given ones included."""
    height: int
    """Pixels; a multiple of the VAE's spatial stride times the DiT's patch."""
    width: int
    """Like the height."""
    how: Sampler


class TrainedRun:
    """A complete `dit` stage with its VAE and text encoder. Videos are uint8 (t, h, w, 3) of the order's size."""

    def __init__(self, folder: StageFolder) -> None:
        fields = folder.stage().fields_as(DiTFields)
        latents = folder.parent("latents")
        self.data = LatentSet(latents.path, held_out=True, patch=fields.dit.patch)
        self.model, self.vae = load_dit(folder, self.data), load_vae(folder.parent("vae"))
        self.encoder = load_text_encoder(latents.stage()).to(current_device())

    def new(self, order: SampleRequest) -> Frames:
        """A video of the prompt."""
        return self._draw(order)

    def after(self, order: SampleRequest, video: Frames, given: int) -> Frames:
        """What comes after a video or a still, of which the clip takes up the last `given` = 1 + 4k frames:
        order.frames - given new frames."""
        latents = self._encode(video[len(video) - given :])
        return self._draw(order, given=ConditioningFrames(latents, "start"))[given:]

    def before(self, order: SampleRequest, video: Frames, given: int) -> Frames:
        """What comes before a video, of which the clip takes up the first `given` = 5 + 4k frames: order.frames - given
        new frames."""
        latents = self._encode(video[:given])[1:]
        return self._draw(order, given=ConditioningFrames(latents, "end"))[: order.frames - given]

    def edited(self, order: SampleRequest, video: Frames, strength: float) -> Frames:
        """The first order.frames frames of a video, made noisy to flow time `strength` and drawn anew from there."""
        latents = self._encode(video[: order.frames])
        return self._draw(order, edit=Edit(latents, strength))

    def _encode(self, frames: Frames) -> Tensor:
        """Normalised latents (t, h, w, c)."""
        return (encode(self.vae, frames[None])[0] - self.data.mean) / self.data.std

    def _draw(self, order: SampleRequest, given: ConditioningFrames | None = None, edit: Edit | None = None) -> Frames:
        caption = self.encoder.encode([order.prompt], self.data.text_tokens)
        shape = latent_size(order.frames, order.height, order.width, self.vae.spec)
        noise = (order.seed, Stream.GRID)
        drawn = sample(self.model, caption, shape, [noise], order.how, given=given, edit=edit)
        return decode(self.vae, drawn * self.data.std + self.data.mean)[0]
