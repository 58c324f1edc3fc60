"""Streams of the text pipeline: given tokens, callbacks, and the step that revealed each token."""

import pytest
import torch

from acdit.data.tokenizers import train_tokenizer
from acdit.diffusion.masked_schedulers import AncestralScheduler, ConfidenceScheduler, FirstHittingScheduler
from acdit.diffusion.objective import TRAIN_STEPS
from acdit.diffusion.ordered_schedulers import FixedOrderScheduler
from acdit.pipelines.text import ACDiTTextPipeline
from acdit.utils.errors import UserError
from tests.pipelines.test_text import BLOCK, BYTES, LENGTH, PROMPTS, network, pipeline, seeds

MASK, EOS = BYTES.mask, BYTES.eos
GAPS = torch.full((3, 14), MASK)
GAPS[0, 3:6], GAPS[0, 7], GAPS[1, 13], GAPS[1, 0] = 65, EOS, 0xE2, EOS
GAPS[2] = torch.tensor(list("no gap é east".encode()))  # nothing to generate


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


@pytest.fixture(scope="module")
def subword_pipe():
    """Two merged words, and an end token that has a spelling."""
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 3, 270)
    scheduler = FirstHittingScheduler(mask_token=tokenizer.mask)
    made = ACDiTTextPipeline(
        network(tokenizer.vocab_size), scheduler, tokenizer, grid=[LENGTH], block=[BLOCK]
    )
    made.set_progress_bar_config(disable=True)
    return made


class Watcher:
    """A callback that notes at which step of its block each token of the whole text appeared."""

    def __init__(self, before, last=None):
        self.before, self.last = before.clone(), last
        self.steps = torch.full_like(before, -1)
        self.of_block = 0

    def __call__(self, pipeline, step, timestep, tensors):
        now = tensors["tokens"]
        self.of_block = 0 if timestep == TRAIN_STEPS else self.of_block + 1  # the time begins anew
        new = (self.before == pipeline.tokenizer.mask) & (now != pipeline.tokenizer.mask)
        self.steps[new] = self.of_block
        self.before = now.clone()
        pipeline._interrupt = step == self.last


def added(pieces, row):
    return [token for piece in pieces for token in piece.added[row]]


def check(pieces, texts, tokens, prompts=None):
    """A stream is the call: its texts, its tokens, and in every piece the tokens that make up its text."""
    for row, (text, ids) in enumerate(zip(texts, tokens, strict=True)):
        prompt = "" if prompts is None else prompts[row]
        assert prompt + "".join(piece.texts[row] for piece in pieces) == text
        start = len(ids) - len(added(pieces, row))
        assert [token.id for token in added(pieces, row)] == ids[start:].tolist()
        assert start == (0 if prompts is None else len(BYTES.encode(prompt)))
        for piece in pieces:
            joined = "".join(token.text for token in piece.added[row])
            unfinished = "" if piece.complete or piece.added[row] else "\ufffd"
            assert piece.texts[row] in (joined, joined + unfinished)
    generated = [token for row in range(len(texts)) for token in added(pieces, row) if not token.given]
    assert sum(piece.tokens for piece in pieces) == len(generated)


@pytest.mark.parametrize(
    "kind", [FirstHittingScheduler, AncestralScheduler, ConfidenceScheduler, FixedOrderScheduler]
)
@pytest.mark.parametrize("block", [1, 4, 16])
def test_the_step_that_revealed_each_token(kind, block):
    pipe = pipeline(kind)
    with torch.no_grad():
        pipe.transformer.final_layer.linear.bias[EOS] += 2  # ends come often
    canvas = pipe.prepare_tokens(PROMPTS, 1, None, block)
    watcher = Watcher(canvas.tokens)
    given = {"block": block, "callback_on_step_end": watcher}
    pieces = list(pipe.stream(PROMPTS, generator=seeds(0, 1, 2, 3), **given))
    called = Watcher(canvas.tokens)
    ids = pipe(
        PROMPTS,
        block=block,
        generator=seeds(0, 1, 2, 3),
        output_type="tokens",
        callback_on_step_end=called,
    ).texts
    texts = pipe(PROMPTS, block=block, generator=seeds(0, 1, 2, 3)).texts
    check(pieces, texts, ids, PROMPTS)
    assert [piece.block for piece in pieces] == list(range(len(pieces)))
    assert all(piece.complete for piece in pieces)
    steps = set()
    for row, prompt in enumerate(PROMPTS):
        tokens = added(pieces, row)
        start = len(BYTES.encode(prompt))
        expected = called.steps[row, start : start + len(tokens)].tolist()
        assert [token.step for token in tokens] == expected and not any(token.given for token in tokens)
        steps.update(expected)
    assert steps <= set(range(block)) and (len(steps) > 1 or block == 1)


@pytest.mark.parametrize("last", [None, 0, 2, 5, 7])
def test_gaps_of_given_tokens_are_filled(pipe, last):
    """Given tokens are part of the pieces, and an interrupted text ends before its first mask."""
    watchers = []

    def watcher():
        watchers.append(Watcher(torch.nn.functional.pad(GAPS, (0, 2), value=MASK), last))
        return watchers[-1]

    given = {"tokens": GAPS, "callback_on_step_end": None}
    texts = pipe(**(given | {"callback_on_step_end": watcher()}), generator=seeds(0, 1, 2)).texts
    ids = pipe(
        **(given | {"callback_on_step_end": watcher()}), generator=seeds(0, 1, 2), output_type="tokens"
    ).texts
    pieces = list(pipe.stream(**(given | {"callback_on_step_end": watcher()}), generator=seeds(0, 1, 2)))
    check(pieces, texts, ids)
    assert texts[2] == "no gap é east"
    for row in range(3):
        for position, token in enumerate(added(pieces, row)):
            assert token.given == bool(GAPS[row, position] != MASK)
            assert token.given == (token.step is None)
            assert token.given or token.step == watchers[0].steps[row, position]
    assert (last is None) == (len(pieces) == 4 and pieces[-1].complete)
    if last is None:
        assert all(len(row) == 14 for row in ids)


def test_given_ends_are_spelled_as_in_a_call(subword_pipe):
    """Texts go on after given ends, which are spelled if more follows, and stop at the first other end."""
    tokenizer = subword_pipe.tokenizer
    mask, eos, word = tokenizer.mask, tokenizer.eos, tokenizer.encode("the")[0]
    rows = [
        [word, eos, mask, mask, eos, word, mask, mask],
        [eos, eos, word, eos, mask, mask, mask, mask],
        [word, word, eos, eos, eos, eos, eos, eos],
        [mask, mask, mask, eos, mask, mask, eos, mask],
    ]
    given = torch.tensor(rows)
    for bias in (0, 3, 99):
        with torch.no_grad():
            subword_pipe.transformer.final_layer.linear.bias[eos] += bias
            texts = subword_pipe(tokens=given, generator=seeds(0, 1, 2, 3)).texts
            ids = subword_pipe(tokens=given, generator=seeds(0, 1, 2, 3), output_type="tokens").texts
            pieces = list(subword_pipe.stream(tokens=given, generator=seeds(0, 1, 2, 3)))
            subword_pipe.transformer.final_layer.linear.bias[eos] -= bias
        check(pieces, texts, ids)
    assert tokenizer.end in texts[0] + texts[1]


def test_subwords_of_prompts_join_to_the_text(subword_pipe):
    prompts = ["the c", "sat on"]
    texts = subword_pipe(prompts, generator=seeds(0, 1)).texts
    pieces = list(subword_pipe.stream(prompts, generator=seeds(0, 1)))
    for row, prompt in enumerate(prompts):
        assert prompt + "".join(token.text for token in added(pieces, row)) == texts[row]
        assert all("".join(each.text for each in piece.added[row]) == piece.texts[row] for piece in pieces)


def test_a_character_belongs_to_its_last_token(pipe):
    """é and 東 over the borders of blocks and steps; an unfinished one at the end is a replacement."""
    wanted = "aé東b".encode() + b"\xe6\x9d" + b"c" + b"\xf0\x9f\x8e"

    def write(pipeline, step, timestep, tensors):
        text = torch.tensor([*wanted, *b"!" * 8])[: tensors["tokens"].shape[1]]
        return {"tokens": torch.where(tensors["tokens"] == MASK, MASK, text)}

    pieces = list(
        pipe.stream(tokens=torch.full((1, len(wanted)), MASK), generator=seeds(0), callback_on_step_end=write)
    )
    parts = [token.text for token in added(pieces, 0)]
    assert parts == ["a", "", "é", "", "", "東", "b", "", "", "\ufffdc", "", "", "\ufffd"]
    assert [token.id for token in added(pieces, 0)] == list(wanted)


def test_masks_that_a_callback_puts_back_are_revealed_later(pipe):
    def call(pipeline, step, timestep, tensors):
        tokens = tensors["tokens"]
        return {"tokens": torch.full_like(tokens, MASK)} if step == 0 else None

    (piece,) = pipe.stream(
        tokens=torch.full((1, 4), MASK),
        generator=seeds(0),
        num_inference_steps=2,
        callback_on_step_end=call,
    )
    assert [token.step for token in piece.added[0]] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tokens": torch.full((1, 4), 258)}, "tokens must be ids 0"),
        ({"tokens": torch.zeros(1, 4).long(), "prompt": "a"}, "pass tokens alone"),
        ({"temperature": -1.0}, "temperature must not be negative"),
        ({"num_inference_steps": 0}, "steps must be a positive number"),
        ({"generator": [torch.Generator()] * 2}, "a list of 1"),
        ({"callback_on_step_end": 3}, "must be a function"),
        ({"callback_on_step_end_tensor_inputs": ["latents"]}, "may only hold tokens, not latents"),
    ],
)
def test_a_stream_of_text_is_checked_at_once(pipe, arguments, words):
    with pytest.raises(UserError, match=words):
        pipe.stream(**arguments)
