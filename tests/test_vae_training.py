"""Training of the VAE: each weight adds its own loss term and nothing else, and training resumes bit for bit."""

import copy
from collections import Counter

import numpy as np
import pytest
import torch

from scaling.core.errors import UserError
from scaling.core.events import Events
from scaling.core.specs import VAESpec, VAEStage, VAETrainSpec
from scaling.metrics.lpips import LPIPS
from scaling.models.discriminator import Discriminator
from scaling.models.vae import VAE
from scaling.training.adversary import RestoredClips
from scaling.training.crops import Crops
from scaling.training.loop import fit
from scaling.training.vae import LPIPS_FRAMES, VAEModule, some_frames

VAE_SPEC = VAESpec(patch=4, stages=(VAEStage(width=8, down="time"), VAEStage(width=16, down="time")), latent_channels=4)
PLAIN = VAETrainSpec(steps=8, batch_clips=2, crop=16, crop_frames=5)
ALL = PLAIN.replace(lpips_weight=0.5, gan_weight=0.1, gan_from=0.5)
GAN = PLAIN.replace(gan_weight=0.1, gan_from=0.5)


class Killed(BaseException):
    pass


def videos():
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(6, 3, 5, 6, 6, generator=generator)
    clips = torch.nn.functional.interpolate(small, (9, 24, 24), mode="trilinear") * 255
    return list(clips.movedim(1, -1).to(torch.uint8).numpy())


class Watched(VAEModule):
    """A VAEModule that keeps a copy of its state after each update."""

    def __init__(self, model, train):
        super().__init__(model, train)
        self.states = []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.states.append(copy.deepcopy(self.state()))
        return loss


def module(train):
    torch.manual_seed(0)
    try:
        return Watched(VAE(VAE_SPEC), train)
    except UserError as error:
        pytest.skip(str(error))


def run(train, folder, until=None):
    """Trains, with a checkpoint after every second update; raises Killed before the update `until`."""
    folder.mkdir(exist_ok=True)
    crops, trained = Crops(videos(), train, VAE_SPEC.spatial_stride), module(train)

    def batch(step):
        if step == until:
            raise Killed
        return crops(step)

    fit(trained, batch, folder / "checkpoints", Events(folder / "events.jsonl"), every=2)
    return trained


def differ(before, after, group):
    return any(not torch.equal(tensor, after[group][name]) for name, tensor in before[group].items())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return run(ALL, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("killed_at", [3, 5, 7])
def test_interrupted_equals_uninterrupted_with_every_loss(tmp_path, uninterrupted, killed_at):
    """The interruption is before, at or after the update at which the discriminator begins."""
    with pytest.raises(Killed):
        run(ALL, tmp_path, until=killed_at)
    resumed = run(ALL, tmp_path)
    assert resumed.state().keys() >= {"weights", "discriminator", "discriminator-adamw"}
    for group, tensors in uninterrupted.state().items():
        assert tensors.keys() == resumed.state()[group].keys()
        for name, tensor in tensors.items():
            assert torch.equal(tensor, resumed.state()[group][name]), f"{group} {name}"


def test_both_networks_are_updated_only_after_the_gan_begins(tmp_path):
    """Before that, the VAE is the same as without a discriminator; afterwards each update changes both."""
    plain, late = (run(train, tmp_path / name).states for name, train in (("plain", PLAIN), ("late", GAN)))
    begins = round(GAN.gan_from * GAN.steps)
    for before in range(begins):
        assert not differ(plain[before], late[before], "weights")
        assert not differ(late[0], late[before], "discriminator")
        assert late[before]["discriminator-adamw"] == {}
    for before, after in zip(late[begins - 1 :], late[begins:], strict=False):
        assert differ(before, after, "discriminator")
        assert differ(before, after, "weights")
    assert differ(plain[begins], late[begins], "weights")


def test_without_a_gan_there_is_nothing_of_it():
    plain = module(PLAIN)
    assert plain.adversary is plain.lpips is None
    assert not [stem for stem in plain.state() if stem.startswith("discriminator")]
    assert len(plain.configure_optimizers()) == 2


def test_the_losses_add_up():
    """The loss of one batch is the plain loss plus the weighted additional terms."""
    (batch,) = Crops(videos(), PLAIN, VAE_SPEC.spatial_stride)(6)
    plain, with_all_losses = module(PLAIN), module(ALL)
    loss = plain.loss(batch, 6)
    with_all_losses.loss(batch, 6)
    (pair,) = with_all_losses.pairs
    frame_indices = [(place, frame) for place in batch.places for frame in some_frames(5, ALL.seed, 6, place).tolist()]
    assert len(frame_indices) == len(set(frame_indices)) == 2 * LPIPS_FRAMES
    frames = [(pair.restored[place, frame], pair.real[place, frame]) for place, frame in frame_indices]
    perceptual = torch.stack([LPIPS("vgg")(*frame_pair) for frame_pair in frames]).mean()
    adversarial = -with_all_losses.adversary.discriminator(pair.restored).mean()
    torch.testing.assert_close(
        with_all_losses.loss(batch, 6), loss + 0.5 * perceptual + 0.1 * adversarial, rtol=1e-5, atol=1e-6
    )


def test_the_vae_s_part_leaves_no_gradient_on_the_discriminator():
    (batch,) = Crops(videos(), GAN, VAE_SPEC.spatial_stride)(6)
    trained = module(GAN)
    trained.loss(batch, 6).backward()
    assert all(parameter.grad is None for parameter in trained.adversary.parameters())
    assert all(parameter.requires_grad for parameter in trained.adversary.parameters())
    assert all(parameter.grad is not None for parameter in trained.vae.parameters())


def test_the_discriminator_learns_to_tell():
    adversary = module(GAN).adversary
    real = torch.rand(2, 5, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    pair = [RestoredClips(real, real.mean(dim=(2, 3), keepdim=True).expand_as(real), share=1.0)]
    losses = []
    for _ in range(12):
        losses.append(adversary.loss(pair))
        losses[-1].backward()
        adversary.step()
    assert losses[0].item() == pytest.approx(1, abs=0.2)
    assert losses[-1].item() < 0.6 * losses[0].item()


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 8, 8), (5, 16, 24), (17, 32, 32)])
def test_the_discriminator_judges_images_and_clips_by_patches(frames, height, width):
    logits = Discriminator()(torch.zeros(2, frames, height, width, 3))
    assert logits.shape == (2, -(-frames // 4), height // 8, width // 8)


def test_frames_are_drawn_by_seed_and_step_and_place():
    assert torch.equal(some_frames(9, 0, 1, 2), some_frames(9, 0, 1, 2))
    drawn_frames = {tuple(some_frames(9, 0, step, place).tolist()) for step in range(3) for place in range(3)}
    assert len(drawn_frames) == 9
    assert sorted(some_frames(3, 0, 1, 2).tolist()) == [0, 1, 2]


def test_images_and_clips_of_any_size_are_all_trained_on_as_they_are():
    """Each clip is cropped to its own size: in an earlier version, one image made all crops one frame long."""
    shapes = [(1, 24, 24), (5, 24, 32), (9, 16, 24), (17, 32, 32)]
    clips = [np.full((*shape, 3), number, np.uint8) for number, shape in enumerate(shapes)]
    train = PLAIN.replace(batch_clips=6, crop=24, crop_frames=9)
    crops, counts = Crops(clips, train, 8), Counter()
    for step in range(50):
        batches = crops(step)
        assert sum(batch.share for batch in batches) == pytest.approx(1)
        assert sorted(place for batch in batches for place in batch.places) == list(range(6))
        for batch in batches:
            frames, height, width = batch.pixels.shape[1:4]
            for pixels in batch.pixels:
                assert len(pixels.unique()) == 1
                counts[int(pixels[0, 0, 0, 0]), frames, height, width] += 1
    assert counts.keys() == {(0, 1, 24, 24), (1, 5, 24, 24), (2, 9, 16, 16), (3, 9, 24, 24)}
    assert min(counts.values()) > 50


def test_ranks_share_the_crops_of_an_update():
    train = PLAIN.replace(batch_clips=7)
    full = [Crops(videos(), train, 8)(step) for step in range(4)]
    ranks = [Crops(videos(), train, 8, rank=rank, world_size=3) for rank in range(3)]
    for step, (batch,) in enumerate(full):
        parts = [part for crops in ranks for part in crops(step)]
        assert sorted(place for part in parts for place in part.places) == list(range(7))
        for part in parts:
            assert torch.equal(part.pixels, batch.pixels[list(part.places)])


def test_a_crop_too_small_for_the_perceptual_loss_is_refused():
    with pytest.raises(ValueError, match="crop is 8, but the perceptual loss needs 16"):
        VAETrainSpec(crop=8, lpips_weight=1.0)
