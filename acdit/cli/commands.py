"""What the commands do; imported when one runs."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from PIL import Image

from ..bench.doctor import examine, format_findings
from ..bench.options import BenchOptions
from ..bench.report import heading, plot, table_lines
from ..bench.runs import Bench
from ..bench.timing import machine
from ..data.config import DataConfig
from ..data.encoding import encode_pixels
from ..data.texts import read_texts
from ..data.tokenizers import train_tokenizer
from ..evaluation.clip_comparison import compare_clips, comparison_table
from ..evaluation.digits import evaluate_pipeline, score_table
from ..evaluation.moving_digits import clip_table, evaluate_clips, plot_rollouts
from ..evaluation.options import EvaluateOptions
from ..evaluation.texts import evaluate_texts, text_table
from ..generation.batches import asked_labels, draw
from ..generation.options import RunOptions, SampleOptions
from ..generation.sample_sets import draw_set
from ..generation.text_files import write_texts
from ..generation.video_files import draw_clips
from ..media.images import picture_grid, save_picture
from ..model.layout import dims, parse_dims
from ..pipelines.loading import OF_KIND, load_pipeline, pipeline_folder
from ..pipelines.text import ACDiTTextPipeline
from ..pipelines.video import ACDiTVideoPipeline
from ..published.convert import convert_checkpoint, publish
from ..studies.options import StudyOptions
from ..studies.sampling import study_sampling
from ..studies.text import study_text
from ..training.autoencoder import train_autoencoder
from ..training.autoencoder_config import AutoencoderOptions
from ..training.curves import draw_curves
from ..training.log import read_log
from ..training.loop import train as run_training
from ..training.options import EncodeOptions, PlanOptions, TrainOptions
from ..training.plan import format_plan, make_plan
from ..utils.errors import UserError, require
from ..utils.files import check_writable, whole
from ..utils.ranks import launched
from .info import model_facts
from .options import ConvertOptions, CurvesOptions, DoctorOptions, InfoOptions, TokenizerOptions

Asked = TypeVar("Asked", SampleOptions, EvaluateOptions)


def train(options: TrainOptions) -> None:
    """`acdit train`: run a recipe, or go on with it."""
    trained = run_training(options, allow_changes=options.allow_changes)
    if trained is not None and launched().main:
        print(f"the trained pipeline is in {trained}")


def autoencoder(recipe: AutoencoderOptions) -> None:
    """`acdit autoencoder`: train an autoencoder, or go on with it."""
    print(f"the trained autoencoder is in {train_autoencoder(recipe, _device(recipe.device))}")


def encode(recipe: EncodeOptions) -> None:
    """`acdit encode`: latents of a recipe's images, or what is missing of them."""
    manifest = encode_pixels(
        recipe.latents,
        recipe.data,
        recipe.autoencoder,
        seed=recipe.training.seed,
        device=_device(recipe.device),
        batch=recipe.batch,
    )
    if manifest is not None:  # else another rank has the last word
        unread = len(manifest["skipped"])
        count = f"{manifest['count']:,} {recipe.data.noun}"
        print(f"{recipe.latents} holds latents of {count}; {unread} could not be read")


def plan(options: PlanOptions) -> None:
    """`acdit plan`: what a run would cost, and what it would trip over.

    Raises:
        UserError: after the report, if there is a problem.
    """
    made = make_plan(options)
    print(made.to_json() if options.json else format_plan(made))
    if made.problems:
        names = ", ".join(check.subject for check in made.problems)
        raise UserError(f"{options.name} cannot start as it stands; see the checks: {names}")


def sample(options: SampleOptions) -> None:
    """`acdit sample`: one picture, a row for each label; a set of images; videos; or texts."""
    if options.out is not None:
        check_writable(options.path)
    options = _with_model(options)
    pipeline = _opened(options)
    if isinstance(pipeline, ACDiTTextPipeline):
        _refuse(options.not_of_text, "images and video", "text")
        print(write_texts(pipeline, options), end="")
        return
    check_writable(options.path)
    options = _resolved(options, pipeline)
    if isinstance(pipeline, ACDiTVideoPipeline):
        _refuse(options.of_text, "text", "video")
        print(draw_clips(pipeline, options))
        return
    _refuse(options.of_video, "video", "images")
    _refuse(options.of_text, "text", "images")
    if options.count is not None:
        said = draw_set(pipeline, options)
        if said is not None:
            print(said)
        return
    samples = options.samples or 8
    prefix = None if options.prefix is None else _read_picture(options.prefix)
    block = None if options.block is None else parse_dims(options.block)
    asked = asked_labels(pipeline, options.labels, samples)
    if prefix is not None and pipeline.data_channels == 1:
        prefix = prefix.convert("L")
    images, evaluations, cache, seconds = draw(
        pipeline,
        asked,
        options,
        block=block,
        image=prefix,
        keep_blocks=options.keep_blocks or 0,
        guidance_rising=options.guidance_rising,
        output_type="pil",
    )
    save_picture(picture_grid(images, samples), options.path)
    print(
        f"{options.path}: {len(images)} images in {seconds:.1f} s; "
        f"{evaluations} network evaluations an image, key-value cache {cache / 2**10:.0f} KiB an image"
    )


def evaluate(options: EvaluateOptions) -> None:
    """`acdit evaluate`: scores of the digits that a model draws, or of texts, one row a block size."""
    out = None if options.out is None else Path(options.out)
    if out is not None:
        check_writable(out)
    options = _with_model(options)
    pipeline = _opened(options)
    if isinstance(pipeline, ACDiTTextPipeline):
        _refuse(options.not_of_text, "images and video", "text")
        scores = evaluate_texts(pipeline, options)
        print(text_table(scores))
        _report(options, scores, out)
        return
    options = _resolved(options, pipeline)
    if isinstance(pipeline, ACDiTVideoPipeline):
        _refuse(options.of_text, "text", "video")
        _evaluate_clips(pipeline, options, out)
        return
    _refuse(options.of_video, "video", "images")
    _refuse(options.of_text, "text", "images")
    _refuse(options.not_of_images, "text and video", "images")
    blocks = [parse_dims(block) for block in options.block or [dims(pipeline.layout.block)]]
    for block in blocks:
        pipeline.layout.with_block(block)  # all of them tile the grid, or none is drawn
    rows = evaluate_pipeline(pipeline, blocks, options)
    print(score_table(rows))
    _report(options, rows, out)


def _evaluate_clips(pipeline: ACDiTVideoPipeline, options: EvaluateOptions, out: Path | None) -> None:
    if options.block is not None:
        raise UserError("--block compares images; of this model of video, evaluate one layout at a time")
    if options.data is not None:
        if options.plot is not None:
            raise UserError("--plot is of moving digits that are continued: leave it out, or --data")
        scores = compare_clips(pipeline, options)
        print(comparison_table(scores))
        _report(options, scores, out)
        return
    if options.plot is not None:
        require("matplotlib", "examples")
        check_writable(Path(options.plot))
    scores = evaluate_clips(pipeline, options)
    print(clip_table(scores))
    if options.plot is not None:
        plot_rollouts(scores, Path(options.plot))
    _report(options, scores, out)


def _report(options: EvaluateOptions, scores: Any, out: Path | None) -> None:
    """Write the scores as JSON, or print them."""
    report = json.dumps({"model": str(pipeline_folder(options.model)), "scores": scores}, indent=2)
    if out is None:
        print(report)
    else:
        with whole(out) as aside:
            aside.write_text(report + "\n")


def info(options: InfoOptions) -> None:
    """`acdit info`: what a model is, and what it costs."""
    pipeline = load_pipeline(options.model)
    layout = pipeline.layout
    if options.block is not None:
        layout = layout.with_block(parse_dims(options.block))
    facts = {"model": str(pipeline_folder(options.model))} | model_facts(pipeline, layout)
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
    device = _device(options.device)
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
        study_text(options)
    else:
        study_sampling(_opened(options), options)


def doctor(options: DoctorOptions) -> None:
    """`acdit doctor`: what there is, what is used and why, and whether it computes correctly.

    Raises:
        UserError: after the report, if a check failed.
    """
    findings = examine(_device(options.device))
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print(format_findings(findings))
    failed = [finding.subject for finding in findings if finding.state == "FAILED"]
    if failed:
        raise UserError(
            f"these checks failed: {', '.join(failed)}; with another version of torch they may not"
        )


def _with_model(options: Asked) -> Asked:
    """The options with a model: where none is named, that in the package of the kind that they are for."""
    kind = "text" if options.of_text else "video" if options.of_video else "image"
    if kind == "image" and isinstance(options, EvaluateOptions) and options.not_of_images:
        kind = "text"
    return replace(options, model=options.model or OF_KIND[kind])


def _opened(options: RunOptions) -> Any:
    """The pipeline on the device and in the precision that were asked for."""
    device = _device(options.device)
    pipeline = load_pipeline(options.model, getattr(torch, options.dtype))
    pipeline.to(device)
    if options.vae_slicing or options.vae_tiling:
        vae = cast(Any, getattr(pipeline, "vae", None))
        if vae is None:
            raise UserError("--vae-slicing and --vae-tiling are for models with an autoencoder")
        vae.use_slicing, vae.use_tiling = options.vae_slicing, options.vae_tiling
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _refuse(given: list[str], kind: str, own: str) -> None:
    """Raise UserError for options that are for models of another kind than the one at hand."""
    if given:
        raise UserError(f"{', '.join(given)}: for models of {kind}, and this one is of {own}")


def _resolved(options: Asked, pipeline: Any) -> Asked:
    """The options with steps and interval in place of `fast`."""
    if not options.fast:
        return options
    asked = pipeline.fast
    return replace(
        options,
        fast=False,
        steps=asked["num_inference_steps"],
        guidance_interval=asked["guidance_interval"],
    )


def _device(asked: str | None) -> torch.device:
    """The device that was asked for, or the GPU of this rank, or the CPU."""
    ranks = launched()  # each has a GPU of its own
    name = {None: str(ranks.device), "cuda": f"cuda:{ranks.local_rank}"}.get(asked, asked)
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch's ways to say that it has no such device
        raise UserError(f"--device {name} cannot be used: {str(error).splitlines()[0]}") from error


def _read_picture(path: str) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for some broken files
        raise UserError(f"--prefix {path} cannot be read as a picture: {error}") from error
