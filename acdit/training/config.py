"""Typed configuration of a training run, shared by recipes (YAML), the command line and Python.

This module does not import torch, so that `--help` is fast on the command line.
"""

from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import ClassVar, Literal

from ..data.config import AutoencoderConfig, DataConfig
from ..modalities.modality import Modality
from ..modalities.table import MODALITIES, modality_of_run
from ..model.layout import parse_dims
from ..utils.errors import UserError, in_words
from ..utils.ranges import (
    Count,
    CountFromZero,
    Fraction,
    FractionAboveZero,
    FractionBelowOne,
    NonNegative,
    Number,
    Positive,
    Ranged,
    SamplingSteps,
    Seed,
)
from ..utils.settings import fields_of
from .classifier_config import ClassifierConfig
from .diffusion_config import DiffusionConfig
from .model_config import ModelConfig

FORMAT_VERSION = 1
RANK_FLOPS = 4e14  # FLOP/s of a rank that plans assume: about 40% of the bf16 peak of an H100


@dataclass
class LayoutConfig(Ranged):
    """Division of a sample into tokens, and of the tokens into blocks."""

    section: ClassVar[str] = "layout."

    patch: Count = 4
    """Side of a token's patch in pixels (or latent cells); not used for texts."""
    blocks: list[str] = field(default_factory=lambda: ["4x4"])
    """Block sizes in tokens, such as 4x4, 4x16x16 for clips or 16 for texts. If there are several, each
    training step draws one at random; the exported pipeline uses the first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.blocks:
            raise UserError("layout.blocks must name at least one block size, such as 4x4")
        for block in self.blocks:
            parse_dims(block, "layout.blocks")


@dataclass
class OptimizerConfig(Ranged):
    """Configuration of AdamW and its learning rate schedule (Appendix B)."""

    section: ClassVar[str] = "optimizer."

    learning_rate: NonNegative = 3e-4
    """Peak learning rate."""
    betas: tuple[FractionBelowOne, FractionBelowOne] = (0.9, 0.95)
    """Betas of AdamW."""
    weight_decay: NonNegative = 0.0
    """Weight decay of AdamW."""
    clip: NonNegative = 1.0
    """Maximum gradient norm; larger gradients are clipped to it. 0 = no clipping."""
    schedule: Literal["wsd", "cosine", "constant"] = "wsd"
    """Learning rate after the warm-up: stable, then decaying (wsd); cosine decay to zero; or constant."""
    warmup_steps: CountFromZero = 0
    """Number of steps of linear warm-up."""
    decay_share: Fraction = 0.15
    """Fraction of the steps, at the end of training, during which wsd decays."""
    layer_decay: FractionAboveZero = 1.0
    """Factor of the learning rate from each layer to the one before it, so that layer k of L learns at
    layer_decay^(L + 1 - k) of the rate of the output (arXiv 2111.06377); 1 = all layers alike."""
    ema_decay: FractionBelowOne = 0.9999
    """Decay of the moving average of the weights."""
    ema_warmup: bool = False
    """Start the moving average at a low decay, (1 + n) / (10 + n), which short runs need."""


@dataclass
class TrainingConfig(Ranged):
    """Configuration of the training run itself."""

    section: ClassVar[str] = "training."

    steps: Count = 1000
    """Number of optimiser steps."""
    batch_size: Count = 64
    """Number of samples per optimiser step, over all ranks and accumulation steps."""
    accumulation: Count = 1
    """Number of forward passes into which each optimiser step is split."""
    seed: Seed = 0
    """Seed of all random draws."""
    precision: Literal["auto", "no", "bf16"] = "auto"
    """Precision: bf16 autocast (bf16), float32 (no), or bf16 where the accelerator supports it (auto)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    compile: bool = False
    """Compile the network's blocks with torch.compile."""
    compile_mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = (
        "default"
    )
    """Mode of torch.compile; reduce-overhead and max-autotune record CUDA graphs."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Parallelism over ranks: weights and optimiser are replicated on every rank (ddp) or sharded (fsdp)."""
    world_size: Count | None = None
    """Required number of ranks, checked only where no launcher started several; default: any number."""
    checkpoint_every: Count = 1000
    """Number of steps between checkpoints."""
    keep_checkpoints: Count = 2
    """Number of the newest checkpoints to keep; the best by validation loss is kept too."""
    keep_every: CountFromZero = 0
    """Interval in steps: checkpoints at its multiples are kept permanently; 0 = none."""
    sample_every: CountFromZero = 0
    """Number of steps between sample grids, which are written to `samples/`; 0 = none."""
    log_every: Count = 10
    """Number of steps between entries in log.jsonl and in the trackers."""
    trackers: list[Literal["tensorboard", "wandb"]] = field(default_factory=list)
    """Trackers that receive the entries in addition to log.jsonl: tensorboard, wandb."""
    objective: str | None = None
    """Training objective, by its name in `acdit.training.objectives.OBJECTIVES`; default: the usual one for
    the data."""
    init_from: str | None = None
    """Pipeline directory or training run to start from; its network replaces the section `model`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compile_mode != "default" and not self.compile:
            raise UserError(f"training.compile_mode {self.compile_mode} needs training.compile true")


@dataclass
class ValidationConfig(Ranged):
    """Validation loss of the averaged weights, measured on samples that training never uses."""

    section: ClassVar[str] = "validation."

    every: CountFromZero = 0
    """Number of steps between validations; 0 = none."""
    images: Count = 512
    """Number of validation samples: the first ones of the source in a fixed shuffled order."""
    source: str | None = None
    """Source of the samples, as in data.source; default: the held-out part of a built-in data set, or
    the files that data.validation_fraction holds out."""
    split: str | None = None
    """Split of a Hugging Face data set, or of a folder with split folders; default: data.split, or with
    validation.source the held-out split of that source."""
    listed: str | None = None
    """List of files to use, as in data.listed, such as UCF-101's testlist01.txt; default: data.listed."""


@dataclass
class LoraConfig(Ranged):
    """Low-rank adapters, trained on top of the frozen network of `training.init_from` (arXiv 2106.09685)."""

    section: ClassVar[str] = "lora."

    rank: CountFromZero = 0
    """Rank of the adapters; 0 = no adapters, the whole network is trained."""
    alpha: Positive | None = None
    """Scale of the adapters, which are multiplied by alpha / rank; default: the rank."""
    targets: list[str] = field(default_factory=lambda: ["qkv", "proj", "fc1", "fc2"])
    """Linear layers that get an adapter, given by the ends of their names."""
    label_table: bool = True
    """Also train the class table, for classes that are new or have a new meaning."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank and not self.targets:
            raise UserError("lora.targets must name at least one linear layer, such as qkv")


@dataclass
class SamplingConfig(Ranged):
    """Sampling defaults that are stored in the exported pipeline."""

    section: ClassVar[str] = "sampling."

    steps: SamplingSteps = 25
    """Number of sampling steps per block."""
    guidance_scale: Number = 1.5
    """Scale of classifier-free guidance; 1 = none."""
    scheduler: str | None = None
    """Sampler, by its name in `acdit.diffusion.schedulers.SCHEDULERS`; default: DPM-Solver++, or for texts
    first-hitting sampling (ancestral sampling with time conditioning)."""


@dataclass
class NamedRun(Ranged):
    """Options that all training runs have."""

    name: str = "run"
    """Name of the run."""
    out: str | None = None
    """Directory of the checkpoints and of the final export; default: runs/NAME."""

    @property
    def folder(self) -> Path:
        """Return the directory that the run writes to."""
        return Path(self.out or f"runs/{self.name}")


@dataclass
class Recipe(NamedRun):
    """Configuration of a named training run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    layout: LayoutConfig = field(default_factory=LayoutConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lora.rank and self.training.init_from is None:
            raise UserError(
                f"lora.rank {self.lora.rank} needs a trained network to adapt: set training.init_from, or "
                "leave lora.rank at 0"
            )
        modality = self.modality
        for block in self.layout.blocks:
            if len(parse_dims(block)) != modality.axes:
                raise UserError(f"layout.blocks {modality.block_rule}, not {block!r}")
        self._refuse_unused(modality)
        if self.model.kind == "token-head":
            self._check_token_head(modality)
        if self.training.init_from is None:  # otherwise the network is not known yet
            self.diffusion.masks_for(self.time_conditioning)
        if self.model.context == "noised":
            self._check_noised_context()
        if self.autoencoder.model is not None and (name := self.classifier.of_pixels):
            raise UserError(
                f"classifier.{name} is for pixels, but autoencoder.model is set: set it to 0, or leave out "
                "the autoencoder"
            )
        probes = self.training.objective == "probes"
        if modality.objectives and probes != (self.classifier.probe != "none"):
            advice = "choose linear, attention or both" if probes else "leave it out"
            raise UserError(
                f"classifier.probe {self.classifier.probe} does not fit training.objective "
                f"{self.training.objective}: {advice}"
            )

    def _check_token_head(self, modality: Modality) -> None:
        """Raise UserError if a key does not fit a network with a head per token."""
        single = "x".join(["1"] * modality.axes)
        if any(set(parse_dims(block)) != {1} for block in self.layout.blocks):
            raise UserError(
                f"layout.blocks must be {single} for model.kind token-head, which generates single tokens, "
                f"not {','.join(self.layout.blocks)}"
            )
        given = {
            "lora.rank": self.lora.rank != 0,
            "model.context": self.model.context != "clean",
            "model.positions": self.model.positions != "rope_nd",
        }
        unfit = [key for key, is_set in given.items() if is_set]
        if unfit:
            raise UserError(
                f"{in_words(unfit, 'and')} {'is' if len(unfit) == 1 else 'are'} for model.kind acdit, "
                f"not token-head: leave {'it' if len(unfit) == 1 else 'them'} out"
            )

    def _refuse_unused(self, modality: Modality) -> None:
        """Raise UserError if a key is set that has no meaning for the modality."""
        for key, known in fields_of(Recipe).items():
            if not modality.ignores(key) or attrgetter(key)(self) == known.default:
                continue
            used = [each for each in MODALITIES.values() if not each.ignores(key)]
            lengths = [f"data.{each.length_key}" for each in used if each.length_key is not None]
            chosen_by = f"data.{modality.length_key}"
            if modality.length_key is None:
                chosen_by = f"training.objective {self.training.objective or modality.objective}"
            if modality.length_key is None and len(lengths) == len(used):
                chosen_by = f"{in_words(lengths, 'and')} not set"
            raise UserError(
                f"{key} is for {in_words((each.many for each in used), 'and')}, not for {modality.samples} "
                f"({chosen_by}): leave it out"
            )

    def _check_noised_context(self) -> None:
        """Raise UserError if a key is set that needs clean blocks."""
        given = {
            "diffusion.draws": self.diffusion.draws != 1,
            "diffusion.views": self.diffusion.views is not None,
            "diffusion.context_noise": self.diffusion.context_noise != 0,
            "model.time_conditioning": self.model.time_conditioning is False,
        }
        for key in (key for key, is_set in given.items() if is_set):
            raise UserError(f"{key} has no meaning with model.context noised: leave it out")

    @property
    def modality(self) -> Modality:
        """Return the modality of the run: that of its objective, or else that of its data."""
        return modality_of_run(self.training.objective, self.data)

    @property
    def network_class(self) -> str:
        """Return the name of the class of the network."""
        return "CausalTokenDiffusion" if self.model.kind == "token-head" else self.modality.network[1]

    @property
    def time_conditioning(self) -> bool:
        """Return whether a new network of the recipe is conditioned on the diffusion time."""
        configured = self.model.time_conditioning
        return self.modality.time_conditioning if configured is None else configured

    @property
    def latents(self) -> Path:
        """Return the directory of the latents that the run is trained on."""
        return Path(self.autoencoder.latents or f"latents/{self.name}")
