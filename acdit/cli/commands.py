"""What the commands do; imported when one runs."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import cast

import torch

from ..bench.doctor import examine, format_findings
from ..bench.report import heading, plot, table_lines
from ..bench.runs import Bench
from ..bench.timing import machine
from ..data.config import DataConfig
from ..data.encoding import encode_pixels
from ..data.texts import read_texts
from ..data.tokenizers import train_tokenizer
from ..modalities.modality import Modality
from ..model.layout import parse_dims
from ..pipelines.folders import folder_modality, pipeline_folder
from ..pipelines.image import ACDiTImagePipeline
from ..pipelines.loading import load_pipeline
from ..published.convert import convert_checkpoint, publish
from ..studies.sampling import study_sampling
from ..studies.text import Budget, study_text
from ..training.autoencoder import train_autoencoder
from ..training.curves import draw_curves
from ..training.log import read_log
from ..training.loop import train as run_training
from ..training.plan import format_plan, make_plan
from ..utils.errors import UserError, require
from ..utils.files import check_writable, whole
from ..utils.ranks import launched
from ..utils.references import load_object
from .bench_options import BenchOptions
from .info import model_facts
from .model_options import RunOptions
from .open_model import device_of, open_guided, sampling_of
from .options import ConvertOptions, CurvesOptions, DoctorOptions, InfoOptions, TokenizerOptions
from .recipe_options import AutoencoderOptions, EncodeOptions, PlanOptions, TrainOptions
from .study_options import StudyOptions


def train(options: TrainOptions) -> None:
    """`acdit train`: run a recipe, or go on with it."""
    trained = run_training(options, allow_changes=options.allow_changes)
    if trained is not None and launched().main:
        print(f"the trained pipeline is in {trained}")


def autoencoder(recipe: AutoencoderOptions) -> None:
    """`acdit autoencoder`: train an autoencoder, or go on with it."""
    print(f"the trained autoencoder is in {train_autoencoder(recipe, device_of(recipe.device))}")


def encode(recipe: EncodeOptions) -> None:
    """`acdit encode`: latents of a recipe's images, or what is missing of them."""
    manifest = encode_pixels(
        recipe.latents,
        recipe.data,
        recipe.autoencoder,
        seed=recipe.training.seed,
        device=device_of(recipe.device),
        batch=recipe.batch,
    )
    if manifest is not None:  # else another rank has the last word
        unread = len(manifest["skipped"])
        count = f"{manifest['count']:,} {recipe.modality.samples}"
        print(f"{recipe.latents} holds latents of {count}; {unread} could not be read")


def plan(options: PlanOptions) -> None:
    """`acdit plan`: what a run would cost, and what it would trip over.

    Raises:
        UserError: after the report, if there is a problem.
    """
    made = make_plan(options, ranks=options.ranks, flops=options.flops)
    print(made.to_json() if options.json else format_plan(made))
    if made.problems:
        names = ", ".join(check.subject for check in made.problems)
        raise UserError(f"{options.name} cannot start as it stands; see the checks: {names}")


def sample(modality: Modality, options: RunOptions) -> None:
    """`acdit sample`: images, videos or texts that a model draws."""
    cast(Callable[[RunOptions], None], load_object(modality.sample))(options)


def evaluate(modality: Modality, options: RunOptions) -> None:
    """`acdit evaluate`: scores of what a model draws, or of texts."""
    cast(Callable[[RunOptions], None], load_object(modality.evaluate))(options)


def info(options: InfoOptions) -> None:
    """`acdit info`: what a model is, and what it costs."""
    pipeline = load_pipeline(options.model)
    folder, layout = pipeline_folder(options.model), pipeline.layout
    if options.block is not None:
        layout = layout.with_block(parse_dims(options.block))
    facts = {"model": str(folder)} | model_facts(pipeline, layout, folder_modality(folder))
    if options.json:
        print(json.dumps({name.replace(" ", "_"): value for name, value in facts.items()}, indent=2))
    else:
        for name, value in facts.items():
            print(f"{name:26}{f'{value:,}' if isinstance(value, int) else value}")


def curves(options: CurvesOptions) -> None:
    """`acdit curves`: training curves of runs in one picture."""
    out = Path(options.out)
    check_writable(out)
    paths = [Path(run) for run in options.runs]
    folders = [path if path.is_dir() else path.absolute().parent for path in paths]
    short = len({folder.name for folder in folders}) == len(folders)
    names = [folder.name if short else str(path) for folder, path in zip(folders, paths, strict=True)]
    logs = {name: read_log(path) for name, path in zip(names, paths, strict=True)}
    figure = draw_curves(logs, options.smooth)
    with whole(out) as aside:
        figure.savefig(aside, format="png")
    drawn = ", ".join(f"{name} to step {log.steps[-1]['step']:,}" for name, log in logs.items())
    print(f"{out}: {drawn}")


def convert(options: ConvertOptions) -> None:
    """`acdit convert`: published checkpoints in and out."""
    assert options.source is not None and options.out is not None  # the options were checked
    source, out = Path(options.source), Path(options.out)
    check_writable(out)
    if options.to_published:
        publish(source, out)
    else:
        convert_checkpoint(source, out, ema=options.ema, vae=options.vae)
    print(f"{source} was converted to {out}")


def tokenizer(options: TokenizerOptions) -> None:
    """`acdit tokenizer`: a byte-level BPE, learned from texts."""
    assert options.source is not None  # the options were checked
    out = Path(options.out)
    check_writable(out)
    config = DataConfig(source=options.source, split=options.split, text_column=options.text_column)
    made = train_tokenizer(read_texts(config), options.size)
    made.save(out)
    print(f"{out}: {made.size:,} ids, the end included")


def bench(options: BenchOptions) -> None:
    """`acdit bench`: rows as they are done, then the files."""
    written = [Path(path) for path in (options.json, options.plot) if path is not None]
    for path in written:
        check_writable(path)
    if options.plot is not None:
        require("matplotlib", "examples")
    device = device_of(options.device)
    facts = machine(device)
    print(heading(facts, options.repeats, options.dtype))
    runner = Bench(options.repeats, device, getattr(torch, options.dtype), options.compile)
    results = []
    for row in options.chosen():
        for result in runner.run(row):
            print(table_lines(result), flush=True)
            results.append(result)
    if options.json is not None:
        rows = [result.to_json() for result in results]
        report = {"machine": facts, "dtype": options.dtype, "repeats": options.repeats, "rows": rows}
        with whole(Path(options.json)) as aside:
            aside.write_text(json.dumps(report, indent=2) + "\n")
    if options.plot is not None:
        plot(results, Path(options.plot))
    if written:
        print(f"written: {', '.join(map(str, written))}")


def study(options: StudyOptions) -> None:
    """`acdit study`: a table, a picture and the figures."""
    check_writable(options.folder / "measurements.json")
    if options.name == "text":
        budget = Budget(options.training_steps, options.batch, options.samples)
        study_text(options.folder, budget, first_seed=options.seed, seeds=options.seeds)
        return
    pipeline = open_guided(options, ACDiTImagePipeline)
    study_sampling(
        pipeline,
        pipeline_folder(options.model),
        options.folder,
        sampling_of(options, pipeline),
        samples=options.samples,
        seeds=options.seeds,
    )


def doctor(options: DoctorOptions) -> None:
    """`acdit doctor`: what there is, what is used and why, and whether it computes correctly.

    Raises:
        UserError: after the report, if a check failed.
    """
    findings = examine(device_of(options.device))
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print(format_findings(findings))
    failed = [finding.subject for finding in findings if finding.state == "FAILED"]
    if failed:
        raise UserError(
            f"these checks failed: {', '.join(failed)}; with another version of torch they may not"
        )
