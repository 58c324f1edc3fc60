"""Stream a text block by block, fill a gap in a text, and compare two continuations by their likelihood.

    python examples/stream_text.py
    python examples/stream_text.py --prompt "O Romeo, " --tokens 200 --block 4

The network in the package reads bytes. Its block size is an argument: blocks of 1 are exact autoregression,
larger ones reveal several bytes of a block in parallel and in any order.
"""

import argparse
from collections.abc import Sequence

import torch

from acdit import ACDiTTextPipeline, load_pipeline


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a streamed text, a filled gap and two likelihoods."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prompt", default="To be, or not to be")
    parser.add_argument("--tokens", type=int, default=120, help="bytes after the prompt, at most 256 in all")
    parser.add_argument("--block", type=int, default=16, help="tokens of a block")
    parser.add_argument("--temperature", type=float, default=0.7)
    options = parser.parse_args(arguments)

    pipe = load_pipeline("shakespeare", kind=ACDiTTextPipeline)
    pipe.set_progress_bar_config(disable=True)
    print(options.prompt, end="", flush=True)
    for piece in pipe.stream(
        options.prompt,
        max_new_tokens=options.tokens,
        block=options.block,
        temperature=options.temperature,
        generator=torch.Generator().manual_seed(0),
    ):
        print(piece.texts[0], end="", flush=True)
    print("\n")

    # A gap: the mask's id wherever a token is to be generated. Later tokens of the same block are seen too.
    before, after = "My lord, I ", "you."
    mask = pipe.tokenizer.mask
    ids = [*pipe.tokenizer.encode(before), *[mask] * 5, *pipe.tokenizer.encode(after)]
    seed = torch.Generator().manual_seed(0)
    filled = pipe(tokens=torch.tensor([ids]), block=4, temperature=0.3, generator=seed).texts[0]
    print(f"{before}_____{after} -> {filled!r}")

    ends = ["to sleep", "xq zzvw"]
    values = pipe.score("To die, ", ends, block=1).log_likelihoods
    for end, value in zip(ends, values.tolist(), strict=True):
        print(f"log p({end!r} | 'To die, ') = {value:.1f} nats")


if __name__ == "__main__":
    main()
