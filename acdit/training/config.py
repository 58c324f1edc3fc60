"""The typed configuration of a training run: one source for recipes (YAML), the command line and Python.

Free of torch, so that the command line answers `--help` at once.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from ..data.config import AutoencoderConfig, DataConfig
from ..modalities.modality import Modality
from ..modalities.table import MODALITIES
from ..model.layout import parse_dims
from ..utils.errors import UserError
from ..utils.ranges import (
    Count,
    CountFromZero,
    Fraction,
    FractionBelowOne,
    NonNegative,
    Number,
    Positive,
    Ranged,
    Seed,
)

FORMAT_VERSION = 1
RANK_FLOPS = 4e14  # FLOP/s of a rank, for plans: about 40% of the bf16 peak of an H100


@dataclass
class ModelConfig(Ranged):
    """The network; what is left out follows from the size."""

    section: ClassVar[str] = "model."

    size: Literal["S", "B", "L", "XL", "H"] = "S"
    """Named size (Table 5); S is for laptops."""
    num_layers: Count | None = None
    """Layers, if not the named size's."""
    hidden_size: Count | None = None
    """Hidden width, if not the named size's."""
    num_heads: Count | None = None
    """Attention heads, if not the named size's."""
    time_conditioning: bool | None = None
    """Whether the network is told the time; if left out, of images and video, not of texts."""


@dataclass
class LayoutConfig(Ranged):
    """How an image becomes tokens, and tokens blocks."""

    section: ClassVar[str] = "layout."

    patch: Count = 4
    """Edge of a token's patch in pixels (or latent cells); texts have none."""
    blocks: list[str] = field(default_factory=lambda: ["4x4"])
    """Block sizes in tokens, such as 4x4, 4x16x16 for clips or 16 for texts; of several, one is drawn per
    step. A pipeline takes the first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.blocks:
            raise UserError("layout.blocks must name at least one block size, such as 4x4")
        for block in self.blocks:
            parse_dims(block, "layout.blocks")


@dataclass
class DiffusionConfig(Ranged):
    """The noise process and the objective."""

    section: ClassVar[str] = "diffusion."

    prediction: Literal["epsilon", "v", "flow"] = "epsilon"
    """What the network predicts: epsilon and v with DDPM's linear betas, flow on straight paths."""
    timesteps: Literal["uniform", "logit_normal"] = "uniform"
    """Distribution of training timesteps."""
    timestep_location: Number = 0.0
    """Location of logit_normal: above 0, noisier views are drawn more often (arXiv 2403.03206)."""
    label_dropout: Fraction = 0.1
    """Share of draws whose label is replaced by null, for classifier-free guidance."""
    draws: Count = 1
    """Noise draws that share one pass over the clean blocks."""
    views: Count | None = None
    """Blocks that are noised in a step, drawn at random; all when left out."""
    context_noise: NonNegative = 0.0
    """Standard deviation of noise on the clean blocks that the network is given, against drift."""
    min_snr: Positive | None = None
    """Gamma of min-SNR loss weights, such as 5 (arXiv 2303.09556); unweighted when left out."""
    schedule: Literal["log_linear", "cosine"] = "log_linear"
    """Of texts, the share of tokens that is not masked at time t: 1 - t, or 1 - sin(pi t / 2)."""
    times: tuple[Fraction, Fraction] = (1e-3, 1.0)
    """Of texts, the lowest and highest time that is drawn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.times
        if not 0 < low < high <= 1:
            raise UserError(f"diffusion.times must be LOW,HIGH with 0 < LOW < HIGH <= 1, not {low},{high}")
        if self.timestep_location and self.timesteps != "logit_normal":
            raise UserError(
                f"diffusion.timestep_location {self.timestep_location} is that of diffusion.timesteps "
                "logit_normal: choose that, or leave the location at 0"
            )


@dataclass
class OptimizerConfig(Ranged):
    """AdamW and its schedule (Appendix B)."""

    section: ClassVar[str] = "optimizer."

    learning_rate: NonNegative = 3e-4
    """Peak learning rate."""
    betas: tuple[FractionBelowOne, FractionBelowOne] = (0.9, 0.95)
    """AdamW's betas."""
    weight_decay: NonNegative = 0.0
    """AdamW's weight decay."""
    clip: NonNegative = 1.0
    """Largest gradient norm."""
    schedule: Literal["wsd", "cosine", "constant"] = "wsd"
    """Learning rate after the warm-up: stable, then decaying (wsd); cosine to zero; or constant."""
    warmup_steps: CountFromZero = 0
    """Steps of linear warm-up."""
    decay_share: Fraction = 0.15
    """Share of the steps, at the end, in which wsd decays."""
    ema_decay: Fraction = 0.9999
    """Decay of the moving average of the weights."""
    ema_warmup: bool = False
    """Start the average at a low decay, (1 + n) / (10 + n), which short runs need."""


@dataclass
class TrainingConfig(Ranged):
    """The run itself."""

    section: ClassVar[str] = "training."

    steps: Count = 1000
    """Optimiser steps."""
    batch_size: Count = 64
    """Images in an optimiser step, over all ranks and accumulation steps."""
    accumulation: Count = 1
    """Forward passes that an optimiser step is cut into."""
    seed: Seed = 0
    """Seed of every random draw."""
    precision: Literal["auto", "no", "bf16"] = "auto"
    """bf16 autocast, or float32; auto takes bf16 where the accelerator has it."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    compile: bool = False
    """Compile the network's blocks with torch.compile."""
    compile_mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = (
        "default"
    )
    """What torch.compile tries: reduce-overhead and max-autotune record CUDA graphs."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How ranks share the work: all hold everything, or weights and optimiser are sharded over them."""
    world_size: Count | None = None
    """Ranks that there must be, where no launcher says how many it started."""
    checkpoint_every: Count = 1000
    """Steps between checkpoints."""
    keep_checkpoints: Count = 2
    """Newest checkpoints that are kept; the best by validation loss is kept besides."""
    keep_every: CountFromZero = 0
    """Keep the checkpoints at multiples of so many steps for good; 0 = none."""
    sample_every: CountFromZero = 0
    """Steps between sample grids, written to `samples/`; 0 = none."""
    log_every: Count = 10
    """Steps between entries of log.jsonl and of the trackers."""
    trackers: list[Literal["tensorboard", "wandb"]] = field(default_factory=list)
    """Where entries go besides log.jsonl: tensorboard, wandb."""
    objective: str | None = None
    """What the network learns, by its name in `acdit.training.objectives.OBJECTIVES`; when left out what is
    usual for the data."""
    init_from: str | None = None
    """A pipeline directory or a run to start from: its network takes the place of the section `model`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compile_mode != "default" and not self.compile:
            raise UserError(f"training.compile_mode {self.compile_mode} needs training.compile")


@dataclass
class ValidationConfig(Ranged):
    """Loss of the averaged weights on images that training never sees."""

    section: ClassVar[str] = "validation."

    every: CountFromZero = 0
    """Steps between validations; 0 = none."""
    images: Count = 512
    """Images that it is measured on, the first of the source in a fixed shuffled order."""
    source: str | None = None
    """Where they come from, as data.source; the held-out part of the digits when left out."""
    split: str | None = None
    """Split of a Hugging Face data set; data.split when left out."""
    listed: str | None = None
    """As data.listed, which it is when left out, such as UCF-101's testlist01.txt."""


@dataclass
class LoraConfig(Ranged):
    """Low-rank adapters that learn beside the frozen network of `training.init_from` (arXiv 2106.09685)."""

    section: ClassVar[str] = "lora."

    rank: CountFromZero = 0
    """Rank of the adapters; 0 = none, the whole network learns."""
    alpha: Positive | None = None
    """The adapters are scaled by alpha / rank; as large as the rank when left out."""
    targets: list[str] = field(default_factory=lambda: ["qkv", "proj", "fc1", "fc2"])
    """Linear layers that get an adapter, by the end of their names."""
    label_table: bool = True
    """Learn the class table besides: classes are new, or mean something new."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank and not self.targets:
            raise UserError("lora.targets must name at least one linear layer, such as qkv")


@dataclass
class SamplingConfig(Ranged):
    """Defaults that the exported pipeline carries."""

    section: ClassVar[str] = "sampling."

    steps: Count = 25
    """Solver steps per block."""
    guidance_scale: Number = 1.5
    """Classifier-free guidance; 1 = none."""
    scheduler: str | None = None
    """Sampler, by its name in `acdit.diffusion.schedulers.SCHEDULERS`; when left out DPM-Solver++, and of
    texts first hitting or, with time conditioning, ancestral sampling."""


@dataclass
class NamedRun(Ranged):
    """What every training run has."""

    name: str = "run"
    """Name of the run."""
    out: str | None = None
    """Directory of checkpoints and of what is exported at the end; runs/NAME when left out."""

    @property
    def folder(self) -> Path:
        """Where the run keeps what it writes."""
        return Path(self.out or f"runs/{self.name}")


@dataclass
class Recipe(NamedRun):
    """A named training run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    layout: LayoutConfig = field(default_factory=LayoutConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lora.rank and self.training.init_from is None:
            raise UserError(
                f"lora.rank {self.lora.rank} adapts a trained network: name it in training.init_from, or "
                "leave lora.rank at 0"
            )
        modality = self.modality
        for block in self.layout.blocks:
            if len(parse_dims(block)) != modality.axes:
                raise UserError(f"layout.blocks {modality.block_rule}, not {block!r}")
        for key in modality.unused_keys:
            section, name = key.split(".")
            value = getattr(self, section)
            if getattr(value, name) != getattr(type(value)(), name):
                used = [each.many for each in MODALITIES.values() if key not in each.unused_keys]
                raise UserError(
                    f"{key} is for {' and '.join(used)}, not for {modality.samples} "
                    f"(data.{modality.length_key}): leave it out"
                )

    @property
    def modality(self) -> Modality:
        """The modality of the data."""
        return self.data.modality

    @property
    def latents(self) -> Path:
        """Where the latents are that the run learns from."""
        return Path(self.autoencoder.latents or f"latents/{self.name}")
