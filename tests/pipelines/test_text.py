"""The text pipeline: against `generate`, rows alone and together, ends, parts, and refusals."""

import pytest
import torch

from acdit.data.tokenizers import END, ByteTokenizer, train_tokenizer
from acdit.diffusion.generate import generate
from acdit.diffusion.masked_schedulers import AncestralScheduler, ConfidenceScheduler, FirstHittingScheduler
from acdit.diffusion.ordered_schedulers import FixedOrderScheduler, LowestEntropyScheduler
from acdit.model.layout import Layout
from acdit.pipelines.text import ACDiTTextPipeline
from acdit.utils.errors import UserError
from tests.tiny import tiny_model

BYTES = ByteTokenizer()
LENGTH, BLOCK = 32, 4
PROMPTS = ["", "abc", "abcd", "a longer one, nineteen"]


def network(vocab_size=BYTES.vocab_size, **config):
    text = {"in_channels": None, "axis_lengths": (LENGTH,), "num_classes": None, "time_conditioning": False}
    return tiny_model(dtype=torch.float64, vocab_size=vocab_size, **(text | config))


def pipeline(scheduler=FirstHittingScheduler, **options):
    made = ACDiTTextPipeline(
        network(), scheduler(mask_token=BYTES.mask, **options), grid=[LENGTH], block=[BLOCK]
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


def seeds(*numbers):
    return [torch.Generator().manual_seed(number) for number in numbers]


def test_a_text_is_what_generate_draws(pipe):
    ids = torch.tensor(BYTES.encode("abcde"))
    noise = torch.full((1, LENGTH), BYTES.mask)
    noise[0, :5] = ids
    blocks = generate(
        pipe.transformer,
        Layout((LENGTH,), (BLOCK,)),
        noise.unflatten(1, (-1, BLOCK)),
        scheduler=pipe.scheduler,
        steps=BLOCK,
        generators=seeds(3),
    )
    expected = torch.cat([block.sample for block in blocks], 1)[0]
    made = pipe("abcde", generator=seeds(3), output_type="tokens")
    drawn = made.texts[0]
    assert len(drawn) > 8 and torch.equal(drawn, expected[: len(drawn)])
    assert len(drawn) == LENGTH or drawn[-1] == BYTES.eos
    assert pipe("abcde", generator=seeds(3), return_dict=False) == ([BYTES.decode(drawn)],)


@pytest.mark.parametrize(
    "kind",
    [
        *(FirstHittingScheduler, AncestralScheduler, ConfidenceScheduler),
        *(FixedOrderScheduler, LowestEntropyScheduler),
    ],
)
@pytest.mark.parametrize("block", [1, 4, 16])
def test_rows_are_what_each_is_alone(kind, block):
    """Prompts of unequal lengths and an end in one of them long before the others' (float64)."""
    pipe = pipeline(kind)
    with torch.no_grad():
        pipe.transformer.final_layer.linear.bias[BYTES.eos] += 3  # ends come often
    together = pipe(PROMPTS, block=block, generator=seeds(0, 1, 2, 3), output_type="tokens").texts
    for row, prompt in enumerate(PROMPTS):
        (alone,) = pipe(prompt, block=block, generator=seeds(row), output_type="tokens").texts
        assert torch.equal(alone, together[row])
        ids = BYTES.encode(prompt)
        assert together[row][: len(ids)].tolist() == ids
        drawn = together[row][len(ids) :].tolist()
        assert BYTES.eos not in drawn[:-1] and BYTES.mask not in drawn
    assert any(len(row) < LENGTH and row[-1] == BYTES.eos for row in together)
    assert len({len(row) for row in together}) > 1


def test_no_more_than_asked_for(pipe):
    made = pipe(PROMPTS, max_new_tokens=6, generator=seeds(0, 1, 2, 3), output_type="tokens")
    limits = [len(prompt) + 6 for prompt in PROMPTS]
    assert all(
        len(row) == limit or row[-1] == BYTES.eos for row, limit in zip(made.texts, limits, strict=True)
    )
    whole = pipe(PROMPTS, generator=seeds(0, 1, 2, 3), output_type="tokens")
    for row, limit, every in zip(made.texts, limits, whole.texts, strict=True):
        assert torch.equal(row, every[:limit])
    assert made.evaluations < whole.evaluations


def test_a_stream_is_the_call(pipe):
    pieces = list(pipe.stream(PROMPTS, generator=seeds(4, 5, 6, 7)))
    made = pipe(PROMPTS, generator=seeds(4, 5, 6, 7))
    joined = [prompt + "".join(piece.texts[row] for piece in pieces) for row, prompt in enumerate(PROMPTS)]
    assert joined == made.texts and pieces[-1].evaluations == made.evaluations
    assert len(pieces) == LENGTH // BLOCK


def test_given_tokens_stay(pipe):
    given = torch.full((2, 10), BYTES.mask)
    given[0, 3:6], given[1, 9] = 65, BYTES.eos
    made = pipe(tokens=given, num_samples_per_prompt=2, generator=seeds(0, 1, 2, 3), output_type="tokens")
    drawn = torch.stack(made.texts)
    assert drawn.shape == (4, 10) and (drawn != BYTES.mask).all()
    assert (drawn[:2, 3:6] == 65).all() and (drawn[2:, 9] == BYTES.eos).all()
    assert not torch.equal(drawn[0], drawn[1])


def test_texts_include_what_follows_given_ends(pipe):
    """An end that is given ends nothing; one that is drawn after all given tokens ends the text."""
    mask, eos, a, b = BYTES.mask, BYTES.eos, 97, 98
    given = torch.tensor([[a, eos, mask, mask], [a, eos, b, eos], [mask, mask, eos, b], [a, mask, mask, b]])
    made = pipe(tokens=given, generator=seeds(0, 1, 2, 3), output_type="tokens").texts
    texts = pipe(tokens=given, generator=seeds(0, 1, 2, 3)).texts
    for row, tokens in enumerate(made):
        assert (tokens[given[row] != mask] == given[row][given[row] != mask]).all() and len(tokens) == 4
        assert texts[row] == BYTES.decode([token for token in tokens.tolist() if token != eos])
    with torch.no_grad():
        pipe.transformer.final_layer.linear.bias[eos] += 99  # draws only ends
        made = pipe(tokens=given, generator=seeds(0, 1, 2, 3)).texts
        pipe.transformer.final_layer.linear.bias[eos] -= 99
    assert made == ["a", "ab", "b", "ab"]


def test_steps_and_temperature(pipe):
    few = pipe("ab", num_inference_steps=2, generator=seeds(0), max_new_tokens=14)
    assert few.evaluations == 8  # the first block lacks two tokens
    greedy = [pipe("ab", temperature=0.0, num_inference_steps=1, generator=seeds(seed)) for seed in (0, 1)]
    assert greedy[0].texts == greedy[1].texts
    assert pipe("ab", generator=seeds(0)).texts != pipe("ab", generator=seeds(1)).texts
    assert pipe.scheduler.config["temperature"] == 1.0


def test_a_callback_sees_all_tokens_and_may_change_them(pipe):
    steps = []

    def call(pipeline, step, timestep, tensors):
        steps.append((step, int((tensors["tokens"] == BYTES.mask).sum())))
        return {"tokens": torch.where(tensors["tokens"] == BYTES.mask, BYTES.mask, 66)}

    made = pipe("", generator=seeds(0), callback_on_step_end=call)
    assert made.texts == ["B" * LENGTH]
    assert steps == [(step, LENGTH - 1 - step) for step in range(LENGTH)]
    masks = {"tokens": torch.full((1, LENGTH), BYTES.mask)}
    with pytest.raises(UserError, match="block 0 still has masks"):
        pipe("", generator=seeds(0), callback_on_step_end=lambda *given: masks)
    plain = pipe("", generator=seeds(0), callback_on_step_end=lambda *given: {})
    assert plain.texts == pipe("", generator=seeds(0)).texts


def test_an_end_in_the_prompt_ends_nothing():
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 3, 270)
    scheduler = FirstHittingScheduler(mask_token=tokenizer.mask)
    made = ACDiTTextPipeline(
        network(tokenizer.vocab_size), scheduler, tokenizer, grid=[LENGTH], block=[BLOCK]
    )
    made.set_progress_bar_config(disable=True)
    prompt = f"the cat{END}the"
    (tokens,) = made(prompt, generator=seeds(0), output_type="tokens").texts
    ids = tokenizer.encode(prompt)
    assert tokenizer.eos not in ids and len(tokens) > len(ids) + 1  # the prompt spells the end token
    assert made(prompt, generator=seeds(0)).texts == [prompt + tokenizer.decode(tokens[len(ids) :])]


@pytest.mark.parametrize("kind", ["bytes", "subwords"])
def test_saved_and_loaded(kind, tmp_path):
    tokenizer = BYTES if kind == "bytes" else train_tokenizer(["the cat sat on the mat"] * 3, 270)
    model = network(tokenizer.vocab_size)
    made = ACDiTTextPipeline(
        model, ConfidenceScheduler(mask_token=tokenizer.mask), tokenizer, grid=[LENGTH], block=[BLOCK]
    )
    made.save_pretrained(tmp_path / "saved")
    loaded = ACDiTTextPipeline.from_pretrained(tmp_path / "saved", dtype=torch.float64)
    for each in (made, loaded):
        each.set_progress_bar_config(disable=True)
    assert type(loaded.tokenizer) is type(tokenizer) and loaded.layout == made.layout
    assert type(loaded.scheduler) is ConfidenceScheduler
    assert loaded("the c", generator=seeds(1)).texts == made("the c", generator=seeds(1)).texts
    (tmp_path / "saved" / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"has no tokenizer\.json"):
        ACDiTTextPipeline.from_pretrained(tmp_path / "saved")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prompt": "x" * LENGTH}, "prompt must be shorter than the model's 32 tokens, not 32"),
        ({"prompt": []}, "at least one text"),
        ({"prompt": "a\udcff"}, "not valid Unicode at character 1"),
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number of at least 1, not 0"),
        ({"max_new_tokens": 4.0}, "max_new_tokens must be a whole number of at least 1, not 4.0"),
        ({"num_samples_per_prompt": None}, "num_samples_per_prompt must be a whole number .*, not None"),
        ({"block": 5}, "block must divide the model's 32 tokens; 5 does not"),
        ({"block": 4.0}, "block must divide the model's 32 tokens; 4.0 does not"),
        ({"output_type": "pt"}, "output_type must be text or tokens"),
        ({"temperature": -1.0}, "temperature must not be negative"),
        ({"temperature": float("nan")}, "temperature must be a finite number, not nan"),
        ({"temperature": float("inf")}, "temperature must be a finite number, not inf"),
        ({"top_p": float("nan")}, "top_p must be a finite number, not nan"),
        ({"top_p": 2.0}, "top_p must be above 0"),
        ({"num_inference_steps": -1}, "steps must be a positive number"),
        ({"num_inference_steps": 0}, "steps must be a positive number"),
        ({"tokens": torch.zeros(0, 4).long()}, r"tokens must be ids \(N, L\)"),
        ({"tokens": torch.zeros(4)}, r"tokens must be ids \(N, L\)"),
        ({"tokens": torch.full((1, 4), 258)}, "tokens must be ids 0"),
        ({"tokens": [[1, 2, 3]]}, r"tokens must be ids \(N, L\) in a tensor, not in a list"),
        ({"tokens": torch.zeros(1, 4).long(), "prompt": "a"}, "pass tokens alone"),
        ({"generator": [torch.Generator()] * 2}, "a list of 1"),
        ({"callback_on_step_end_tensor_inputs": ["latents"]}, "may only hold tokens, not latents"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(pipe, arguments, words):
    with pytest.raises(UserError, match=words) as caught:
        pipe(**arguments)
    assert "\n" not in str(caught.value)


def test_parts_that_do_not_belong_together():
    scheduler = FirstHittingScheduler(mask_token=BYTES.mask)
    with pytest.raises(UserError, match="needs grid, block; ACDiTTextPipeline"):
        ACDiTTextPipeline(network(), scheduler)
    with pytest.raises(UserError, match="it has 258 ids including the mask, the network has 300"):
        ACDiTTextPipeline(network(300), scheduler, grid=[LENGTH], block=[BLOCK])
    with pytest.raises(UserError, match="without time conditioning"):
        ACDiTTextPipeline(network(time_conditioning=True), scheduler, grid=[LENGTH], block=[BLOCK])


def test_special_tokens_spelled_in_prompts_and_texts_are_text():
    subwords = train_tokenizer(["To be or not"] * 4, 280)
    made = ACDiTTextPipeline(
        network(subwords.vocab_size),
        FirstHittingScheduler(mask_token=subwords.mask),
        subwords,
        grid=[LENGTH],
        block=[BLOCK],
    )
    made.set_progress_bar_config(disable=True)
    (tokens,) = made(f"a{END}", max_new_tokens=1, output_type="tokens").texts
    spelled = subwords.encode(f"a{END}")
    assert tokens[: len(spelled)].tolist() == spelled and subwords.eos not in spelled
    (text,) = made(f"a{END}", max_new_tokens=1).texts
    assert text.startswith(f"a{END}")
    assert made.score(f"a{END}").tokens.tolist() == [len(spelled)]
