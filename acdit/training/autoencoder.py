"""Train an autoencoder with the same data, sample order, checkpoints and resumption as a network."""

import math
import sys
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from ..data.dataset import Batch, PixelDataset
from ..data.identity import DataIdentity, data_changes
from ..data.opening import open_samples
from ..data.summary import summary
from ..data.worker_processes import load_batches
from ..utils.construction import CONSTRUCTION
from ..utils.errors import UserError
from ..utils.files import check_replaceable, check_writable, only_process, remove_leftovers, whole
from ..utils.finite import check_finite, is_finite, nonfinite
from ..utils.progress_bar import ProgressBar
from ..utils.randomness import Key, generator, seed_of
from .autoencoder_config import AutoencoderRecipe
from .checkpoint import Stored, fill, newest_checkpoint, save_checkpoint
from .config import OptimizerConfig
from .learner import optimizer_tensors, start_moments
from .progress import DivergedError, Progress, not_finite_after, skipped_items, stuck_after, too_many_damaged
from .recipes import recipe_to_dict
from .resuming import LOCATIONS, check_recipe
from .schedules import rate_factor
from .step_batches import StepBatches

CHANGEABLE = {"name", "out", "data.workers", "data.max_unreadable", "checkpoint_every"}
SCALING_IMAGES = 2048  # images from which the scaling of the latents is measured
EXPORTED = r"config\.json|diffusion_pytorch_model[\w.-]*\.(safetensors|json)"  # files of an autoencoder
COSINE = OptimizerConfig(schedule="cosine")


def train_autoencoder(recipe: AutoencoderRecipe, device: torch.device) -> Path:
    """Train an autoencoder to the end of its recipe, resuming an earlier run if there is one.

    Returns:
        Path of the exported autoencoder.

    Raises:
        UserError: If the recipe is invalid, differs from the recipe that the directory was started with, or
            the loss or the weights are not finite, or more than `data.max_unreadable` images cannot be read.
    """
    with only_process(recipe.folder, "the training of an autoencoder"):
        _check_export(recipe)
        remove_leftovers(recipe.folder)
        return _train(recipe, device)


def _check_export(recipe: AutoencoderRecipe) -> None:
    """Raise UserError if the run cannot be written, or the export would replace files that none wrote."""
    check_writable(recipe.folder / "checkpoints" / "any")
    path = recipe.folder / "vae"
    check_replaceable(path, EXPORTED, "move it to another folder and run the same command again")


def _train(recipe: AutoencoderRecipe, device: torch.device) -> Path:
    checkpoints = recipe.folder / "checkpoints"
    data = open_samples(recipe.data, seed=recipe.seed)
    identity = data.identity
    line = f"{recipe.name}: {summary(data, recipe.data.modality.samples)}"
    ProgressBar.write(line, file=sys.stderr)
    network: Any = build_autoencoder(recipe, data)
    network.to(device)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.0, fused=True)
    names = [name for name, _ in network.named_parameters()]

    def tensors() -> dict[str, Tensor]:
        weights = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
        return weights | optimizer_tensors(optimizer, names)

    done, stored = Progress(), newest_checkpoint(checkpoints)
    if stored is not None:
        done = _checked_progress(stored, recipe, identity)
        start_moments(optimizer, done.updates)
        fill(stored, tensors())
    most, samples = recipe.data.max_unreadable, recipe.data.modality.samples
    batches = StepBatches(len(data), recipe.batch_size, range(done.step, recipe.steps), seed=recipe.seed)
    loader = load_batches(data, batches, recipe.data.workers)
    network.train()
    with ProgressBar(total=recipe.steps, initial=done.step, desc=recipe.name, unit="step") as progress:
        for batch in loader:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * rate_factor(done.step, recipe.steps, COSINE)
            error, divergence = losses(network, batch, recipe.seed, device)
            optimizer.zero_grad()
            loss = error + recipe.kl_weight * divergence
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), COSINE.clip)
            finite = bool(loss.isfinite() & norm.isfinite())
            done.count(finite)
            if finite:
                optimizer.step()
            else:
                words = f"step {done.step} was skipped: loss {loss.item():g}, gradient norm {norm.item():g}"
                ProgressBar.write(words, file=sys.stderr)
            progress.set_postfix_str(f"squared error {error.item():.4f}", refresh=False)
            progress.update()
            damaged = 0 if data.damaged is None else int(data.damaged.sum())
            halted = done.stuck or damaged > most
            if done.step % recipe.checkpoint_every == 0 or done.step == recipe.steps or halted:
                if names_not_finite := nonfinite(tensors()):
                    reason = not_finite_after(done.step, names_not_finite, checkpoints, "learning_rate")
                    raise DivergedError(reason, done.step)
                state = {"step": done.step, "progress": asdict(done)}
                state |= {"recipe": recipe_to_dict(recipe), "data": identity.to_json()}
                save_checkpoint(checkpoints, state, tensors(), keep=1)
            if done.stuck:
                raise DivergedError(stuck_after(done.step, "learning_rate"), done.step)
            if damaged > most:
                raise UserError(too_many_damaged(damaged, most, samples, data.skipped))
    if skipped := data.skipped:
        ProgressBar.write(skipped_items(skipped), file=sys.stderr)
    network.eval()
    _measure_scaling(network, data, recipe.seed, device)
    advice = "it is not written: train again with a lower learning_rate"
    check_finite(network.state_dict(), f"the weights of the autoencoder in {recipe.folder}", advice)
    _check_export(recipe)  # files may have come since the run began
    with whole(recipe.folder / "vae") as temporary_path:
        network.save_pretrained(temporary_path)
    return recipe.folder / "vae"


def _checked_progress(stored: Stored, recipe: AutoencoderRecipe, identity: DataIdentity) -> Progress:
    """Return the progress of a checkpoint, after checking that its recipe and data are those of the run.

    Raises:
        UserError: If they differ.
    """
    stored_identity = DataIdentity.from_json(stored.state.get("data"))
    changes = list(chain(*data_changes(stored_identity or identity, identity)))
    same = stored_identity is not None and not changes
    check_recipe(
        stored,
        recipe_to_dict(recipe),
        CHANGEABLE | LOCATIONS if same else CHANGEABLE,
        recipe_to_dict(AutoencoderRecipe()),
        data=changes,
    )
    # earlier versions skipped no steps
    return Progress.stored(stored.state.get("progress", {"step": stored.step}))


def build_autoencoder(recipe: AutoencoderRecipe, data: PixelDataset) -> AutoencoderKL:
    """Build an untrained autoencoder, initialised from the run's seed.

    Raises:
        UserError: If the images cannot be divided into its cells.
    """
    stages, widths = len(recipe.model.channels), tuple(recipe.model.channels)
    cell = 2 ** (stages - 1)
    if data.size[-1] % cell:
        raise UserError(
            f"data.image_size must be a multiple of {cell}, the side of a latent cell for {stages} "
            f"values of model.channels, not {data.size[-1]}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(recipe.seed, "initialisation"))
        config: dict[str, Any] = {  # diffusers' type hints only allow tuples of one stage
            "in_channels": data.channels,
            "out_channels": data.channels,
            "latent_channels": recipe.model.latent_channels,
            "block_out_channels": widths,
            "down_block_types": ("DownEncoderBlock2D",) * stages,
            "up_block_types": ("UpDecoderBlock2D",) * stages,
            "layers_per_block": recipe.model.layers,
            "norm_num_groups": math.gcd(32, *widths),
            "sample_size": data.size[-1],
        }
        with CONSTRUCTION:
            return AutoencoderKL(**config)


def losses(network: AutoencoderKL, batch: Batch, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the squared error and the Kullback-Leibler divergence of a batch, as means over its pixels."""
    pixels = batch["data"].to(device)  # (N, C, H, W)
    encoder: Any = network  # diffusers' type hints also allow tuples as results
    posterior = encoder.encode(pixels).latent_dist
    keys = zip(batch["epoch"].tolist(), batch["index"].tolist(), strict=True)
    latents = _sample_latents(posterior, [("posterior", *key) for key in keys], seed)
    decoded = encoder.decode(latents).sample
    return F.mse_loss(decoded, pixels), posterior.kl().sum() / pixels.numel()


@torch.no_grad()
def _measure_scaling(network: Any, data: PixelDataset, seed: int, device: torch.device) -> None:
    """Store the shift and the scaling factor that give latents mean 0 and standard deviation 1.

    Raises:
        UserError: If there are no such numbers.
    """
    chosen = torch.randperm(len(data), generator=generator(seed, "scaling"))[:SCALING_IMAGES]
    samples = []
    for part in chosen.split(64):
        indices = part.tolist()
        pixels = torch.stack([data.read(index)[0] for index in indices]).to(device)
        posterior = network.encode(pixels).latent_dist
        samples.append(_sample_latents(posterior, [("scaling", index) for index in indices], seed))
    latents = torch.cat(samples)
    if not is_finite(latents) or not latents.std():
        raise UserError(
            "the latents of the autoencoder are not finite, or all equal, so that they cannot be scaled; "
            "it is not written: train again with a lower learning_rate, or for more steps"
        )
    network.register_to_config(scaling_factor=1 / latents.std().item(), shift_factor=latents.mean().item())


def _sample_latents(posterior: Any, keys: list[tuple[Key, ...]], seed: int) -> Tensor:
    """Sample a latent of every image, each with its own random key."""
    shape = posterior.mean.shape[1:]
    noise = torch.stack([torch.randn(shape, generator=generator(seed, *key)) for key in keys])
    return posterior.mean + posterior.std * noise.to(posterior.mean.device)  # (N, C, h, w)
