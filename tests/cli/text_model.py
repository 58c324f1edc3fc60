"""A small text model on disk, and texts that it writes."""

import torch

from acdit.data.tokenizers import ByteTokenizer
from acdit.diffusion.masked_schedulers import FirstHittingScheduler
from acdit.pipelines.loading import load_pipeline
from acdit.pipelines.text import ACDiTTextPipeline
from tests.pipelines.test_text import network

BYTES = ByteTokenizer()
LENGTH = 32


def saved_model(folder):
    """The path of a model of bytes with random weights, saved in a folder."""
    made = network().float()
    with torch.no_grad():
        made.final_layer.linear.bias[32:127] += 6  # mostly readable
    scheduler = FirstHittingScheduler(mask_token=BYTES.mask)
    ACDiTTextPipeline(made, scheduler, grid=[LENGTH], block=[4]).save_pretrained(folder)
    return str(folder)


def drawn(model, prompt, seed, **options):
    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe(prompt, generator=[torch.Generator().manual_seed(seed)], **options).texts[0]
