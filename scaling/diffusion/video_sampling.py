"""Samples videos from a trained run: from a prompt alone, as the continuation or the beginning of a video, or by
editing one. Videos are pixels here; how the flow is integrated is in `scaling.diffusion.sampling`.

The VAE is causal: the first latent of a clip stands for one frame, every other for four. This limits what the
conditioning frames can be:

- To continue a video, its last 1 + 4k frames are encoded as a clip of their own and become the first 1 + k latents of
  the sampled clip, in the same form as in training. The model knows nothing else of the video. The result has the
  video's own frames, not the decoder's, up to the joint. So the motion continues, but sharpness and color change at the
  joint by as much as the VAE loses.
- To sample what comes before a video, its first 1 + 4k frames are encoded in the same way. The first of these latents
  stands for one frame, and there is no such latent inside a clip, so only the k others are used, at the end of the
  clip. They do not contain the video's first frame, only what the next frames reveal of it. The last frame that the
  model samples is the model's own version of that first frame, and the true one replaces it. Also, the latents were
  encoded without the past that the model now samples. So this joint is the weaker one: besides the change in sharpness,
  objects may jump a little.
"""

from dataclasses import dataclass

from torch import Tensor

from scaling.accounting.geometry import latent_size
from scaling.core.stage_fields import DiTFields
from scaling.core.stage_folder import StageFolder
from scaling.core.streams import Stream
from scaling.data.video import Frames
from scaling.diffusion.inference import decode, encode, load_dit, load_vae
from scaling.diffusion.latents import LatentSet
from scaling.diffusion.sampling import ConditioningFrames, Edit, Sampler, sample
from scaling.distributed.devices import current_device
from scaling.text.load import load_text_encoder


@dataclass(frozen=True)
class SampleRequest:
    """A request for one sampled clip."""

    prompt: str
    """The caption of the clip."""
    seed: int
    """The seed of the noise that the clip starts from."""
    frames: int
    """The number of frames of the clip, 1 + 4k, conditioning frames included."""
    height: int
    """The height in pixels, a multiple of the VAE's spatial stride times the DiT's patch."""
    width: int
    """The width in pixels, a multiple of the same number."""
    sampler: Sampler
    """How the flow is integrated."""


class VideoSampler:
    """A complete `dit` stage with its VAE and text encoder. Videos are uint8 (t, h, w, 3) of the requested size."""

    def __init__(self, folder: StageFolder) -> None:
        fields = folder.stage().fields_as(DiTFields)
        latents = folder.parent("latents")
        self.data = LatentSet(latents.path, held_out=True, patch=fields.dit.patch)
        self.model, self.vae = load_dit(folder, self.data), load_vae(folder.parent("vae"))
        self.encoder = load_text_encoder(latents.stage()).to(current_device())

    def new(self, request: SampleRequest) -> Frames:
        """Samples a video of the prompt."""
        return self._sample(request)

    def after(self, request: SampleRequest, video: Frames, num_conditioning: int) -> Frames:
        """Samples what comes after a video or a still. The last `num_conditioning` = 1 + 4k frames of the video are the
        conditioning frames; the result is the request.frames - num_conditioning new frames."""
        latents = self._encode(video[len(video) - num_conditioning :])
        return self._sample(request, conditioning=ConditioningFrames(latents, "start"))[num_conditioning:]

    def before(self, request: SampleRequest, video: Frames, num_conditioning: int) -> Frames:
        """Samples what comes before a video. The first `num_conditioning` = 5 + 4k frames of the video are the
        conditioning frames; the result is the request.frames - num_conditioning new frames."""
        latents = self._encode(video[:num_conditioning])[1:]
        frames = self._sample(request, conditioning=ConditioningFrames(latents, "end"))
        return frames[: request.frames - num_conditioning]

    def edited(self, request: SampleRequest, video: Frames, strength: float) -> Frames:
        """Adds noise to the first request.frames frames of a video, up to flow time `strength`, and samples from
        there."""
        latents = self._encode(video[: request.frames])
        return self._sample(request, edit=Edit(latents, strength))

    def _encode(self, frames: Frames) -> Tensor:
        """The normalized latents (t, h, w, c) of a video."""
        return (encode(self.vae, frames[None])[0] - self.data.mean) / self.data.std

    def _sample(
        self, request: SampleRequest, conditioning: ConditioningFrames | None = None, edit: Edit | None = None
    ) -> Frames:
        caption = self.encoder.encode([request.prompt], self.data.text_tokens)
        shape = latent_size(request.frames, request.height, request.width, self.vae.spec)
        seeds = [(request.seed, Stream.GRID)]
        latents = sample(self.model, caption, shape, seeds, request.sampler, conditioning=conditioning, edit=edit)
        frames: Frames = decode(self.vae, latents * self.data.std + self.data.mean)[0]
        return frames
