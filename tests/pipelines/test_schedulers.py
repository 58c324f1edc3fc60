"""Schedulers in a pipeline: refused wherever they come in, and counted in calls of the network."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_heun_discrete import FlowMatchHeunDiscreteScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

import acdit
from acdit.data.digits import digit_images
from acdit.diffusion.schedulers import default_sampler
from acdit.diffusion.timesteps import Spacing, started
from acdit.evaluation.features.digit_classifier import load_digit_classifier
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.utils.errors import UserError
from tests.pipelines.small import build, latents_of, network, quiet, seeded, small_autoencoder
from tests.tiny import relative_error, tiny_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "schedulers.md"
SIGMAS = [1.0, 0.8, 0.5, 0.2]


def refused():
    return pytest.raises(UserError, match="prediction_type='flow_prediction'")


@pytest.fixture
def flowing():
    return build(network(12))


def test_a_scheduler_is_refused_wherever_it_comes_in(flowing, tmp_path):
    wrong: Any = DDIMScheduler()
    layout: dict[str, Any] = {"grid": (4, 4), "block": (2, 2), "patch": (2, 2)}
    with refused():
        ACDiTImagePipeline(flowing.transformer, wrong, **layout)
    with refused():
        flowing.scheduler = wrong
    assert type(flowing.scheduler) is type(default_sampler("flow"))
    with refused():
        ACDiTImagePipeline.from_pipe(flowing, scheduler=wrong)
    flowing.save_pretrained(tmp_path)
    with refused():
        ACDiTImagePipeline.from_pretrained(tmp_path, scheduler=wrong)
    flowing.__dict__["scheduler"] = wrong  # as a change inside the scheduler
    for call in (flowing, flowing.stream):
        with refused():
            call(0)


def test_a_folder_without_the_record_tells_by_its_scheduler(flowing, tmp_path):
    flowing.save_pretrained(tmp_path)
    path = tmp_path / "transformer" / "config.json"
    config = json.loads(path.read_text())
    assert config.pop("prediction_type") == "flow_prediction"
    path.write_text(json.dumps(config))
    with refused():
        ACDiTImagePipeline.from_pretrained(tmp_path, scheduler=DDIMScheduler())
    loaded = ACDiTImagePipeline.from_pretrained(tmp_path)
    assert loaded.transformer.config["prediction_type"] == "flow_prediction"


def test_the_shipped_models_refuse_other_schedulers():
    with refused():
        acdit.ACDiTImagePipeline.from_pretrained(
            Path(acdit.__file__).parent / "pretrained" / "mnist", scheduler=DDIMScheduler()
        )


def test_latents_are_not_clipped():
    clipping: Any = DDIMScheduler()
    build(network(12), clipping)
    with pytest.raises(UserError, match="clip_sample=False"):
        build(network(4), clipping, vae=small_autoencoder(), patch=(1, 1))


def test_a_text_network_needs_a_text_pipeline():
    model = tiny_model(in_channels=None, vocab_size=9, axis_lengths=(4, 4), num_classes=3)
    with pytest.raises(UserError, match="ACDiTTextPipeline"):
        build(model)


def test_given_sigmas_and_timesteps_hold_for_every_block(flowing):
    flowing.scheduler = FlowMatchEulerDiscreteScheduler()
    given = latents_of(flowing, 0, sigmas=SIGMAS, generator=seeded(1))
    seen = []

    def look(pipeline, step, timestep, tensors):
        seen.append(float(timestep))
        return tensors

    times = [1000 * sigma for sigma in SIGMAS]
    arguments = {"timesteps": times, "sigmas": None}
    other = latents_of(flowing, 0, **arguments, generator=seeded(1), callback_on_step_end=look)
    assert relative_error(other, given) < 1e-5
    assert seen == pytest.approx(times * 4)
    assert flowing(0, sigmas=SIGMAS, num_inference_steps=4).evaluations == 16
    assert relative_error(latents_of(flowing, 0, num_inference_steps=4, generator=seeded(1)), given) > 1e-3
    for wrong in (5, [4, 4, 4, 3]):
        with pytest.raises(UserError, match="num_inference_steps must be left out, or 4"):
            flowing(0, sigmas=SIGMAS, num_inference_steps=wrong)
    with pytest.raises(UserError, match="not both"):
        flowing(0, sigmas=SIGMAS, timesteps=times)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sigmas": [0.1, 0.5, 1.0]}, "sigmas must fall from the first to the last"),
        ({"timesteps": [900, 950]}, "timesteps must fall from the first"),
        ({"timesteps": 900}, "timesteps must be a list of numbers, not 900"),
        ({"sigmas": [0.5, float("nan")]}, "sigmas must fall"),
        ({"mu": 1.5}, "takes no mu without use_dynamic_shifting"),
        ({"block": 2}, r"block must be 2 positive numbers, such as \(2, 2\), not 2"),
        ({"height": 8.0}, "height must be a multiple of"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(flowing, arguments, words):
    flowing.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(UserError, match=words):
        flowing(0, **arguments)


def test_sigmas_are_scaled_by_schedulers_that_do_so(flowing):
    flowing.scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=2.0, final_sigmas_type="zero"
    )
    ready = started(flowing.scheduler, 4, Spacing(sigmas=SIGMAS))
    shifted = [2 * sigma / (1 + sigma) for sigma in SIGMAS]
    assert ready.timesteps.tolist() == pytest.approx([1000 * sigma for sigma in shifted], abs=1)
    assert flowing(0, sigmas=SIGMAS).evaluations == 16


def test_a_scheduler_that_takes_no_sigmas_says_so(flowing):
    flowing.scheduler = FlowMatchHeunDiscreteScheduler()
    with pytest.raises(UserError, match="takes no sigmas"):
        flowing(0, sigmas=SIGMAS)


def test_mu_shifts_the_noise_levels(flowing):
    flowing.scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    with pytest.raises(UserError, match="mu"):
        flowing(0)
    made = [latents_of(flowing, 0, mu=mu, generator=seeded(1)) for mu in (0.5, 1.0)]
    assert relative_error(made[0], made[1]) > 1e-3


def test_second_order_schedulers_are_counted_in_calls(flowing):
    flowing.scheduler = FlowMatchHeunDiscreteScheduler()
    totals = []
    flowing.progress_bar = lambda iterable=None, total=None: totals.append(total) or quiet_bar()
    output = flowing(0, num_inference_steps=[4, 4, 3, 1])
    assert output.evaluations == totals[0] == 7 + 7 + 5 + 1


def quiet_bar():
    from tqdm import tqdm

    return tqdm(disable=True)


def making():
    spec = importlib.util.spec_from_file_location("make_schedulers", PAGE.with_name("make_schedulers.py"))
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows() -> dict[str, list[str]]:
    lines = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    return {name: cells.split(" | ") for name, cells in lines}


def test_the_table_lists_every_scheduler_as_it_is_judged():
    module = making()
    table = rows()
    assert sorted(table) == module.scheduler_names()
    for name, (flow, flow_accuracy, noise, noise_accuracy) in table.items():
        for prediction, cell, accuracy in (
            ("flow_prediction", flow, flow_accuracy),
            ("epsilon", noise, noise_accuracy),
        ):
            row = module.row_of(name, prediction)
            if row.refusal:
                assert cell == row.refusal and not accuracy.strip()
            else:
                assert cell.startswith("works") and row.settings in cell and float(accuracy) >= 0.85
    assert sum(cells[0].startswith("works") for cells in table.values()) >= 8


@pytest.mark.long
def test_schedulers_that_work_draw_digits():
    module = making()
    classifier = load_digit_classifier(*digit_images("mnist"))
    for prediction, pipe in module.pipelines().items():
        for name in module.scheduler_names():
            row = module.row_of(name, prediction)
            if not row.refusal:
                torch.manual_seed(0)
                assert module.accuracy(quiet(pipe), row.scheduler, classifier, per_digit=2) >= 0.7, name


@pytest.mark.parametrize(
    ("scheduler", "prediction"),
    [(PNDMScheduler(), "epsilon"), (FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), None)],
    ids=["many steps", "a shift"],
)
def test_a_saved_scheduler_is_loaded_whatever_steps_it_needs(scheduler, prediction, tmp_path):
    transformer = network(12, **({} if prediction is None else {"prediction_type": prediction}))
    build(transformer, scheduler).save_pretrained(tmp_path)
    loaded = acdit.load_pipeline(tmp_path, kind=ACDiTImagePipeline)
    assert type(loaded.scheduler) is type(scheduler)


def test_equal_first_timesteps_leave_no_step_out():
    """Rounded timesteps of a strong shift; a solver that searched its first one would begin at the second."""
    solver = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=12.0, final_sigmas_type="zero"
    )
    ready = started(solver, 100)
    assert ready.timesteps[0] == ready.timesteps[1]
    sample = torch.ones(1, 4, 3)
    for timestep in ready.timesteps:
        sample = ready.step(torch.ones(1, 4, 3), timestep, sample).prev_sample
    # with a velocity of one from noise 1 to data 0, whatever the steps
    assert torch.allclose(sample, torch.zeros(1, 4, 3), atol=1e-4)
