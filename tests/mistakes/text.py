"""Mistakes of text: masked diffusion, its bounds and its samplers."""

from .kinds import mutant

TEXT = [
    mutant(
        "the mask may be predicted",
        "masked.py",
        "wide = logits[..., :-1]",
        "wide = logits",
        "test_masked.py::test_exact_posterior_has_the_exact_likelihood_at_every_block_size",
    ),
    mutant(
        "unmasked tokens have a loss",
        "masked.py",
        "torch.where(masked, losses, 0.0)",
        "losses",
        "test_masked.py::test_exact_posterior_has_the_exact_likelihood_at_every_block_size",
    ),
    mutant(
        "the cosine schedule with the weight of the other",
        "masked.py",
        "return math.pi / 2 / torch.tan(math.pi / 2 * time)",
        "return 1 / time",
        "test_masked.py::test_the_objective_estimates_the_bound",
    ),
    mutant(
        "all blocks of a sample have one time",
        "masked.py",
        "return (parts + (fine + inner) / key.batch) / num_blocks",
        "return ((parts + (fine + inner) / key.batch) / num_blocks)[:1].expand(num_blocks)",
        "test_masked.py::test_times_are_spread_over_blocks_and_batch",
    ),
    mutant(
        "a place in the batch always has the same part of the times",
        "masked.py",
        "fine = (turns[parts] + place) % key.batch",
        "fine = place + 0 * turns",
        "test_masked.py::test_every_block_and_place_meets_all_times",
    ),
    mutant(
        "counts of masks without the largest",
        "likelihood.py",
        "counts = torch.minimum((shares * tokens).long() + 1, tokens)",
        "counts = torch.minimum((shares * (tokens - 1)).long() + 1, tokens)",
        "test_masked.py::test_estimates_are_unbiased",
    ),
    mutant(
        "sets of masks all count alike",
        "likelihood.py",
        "1 / (len(places) * math.comb(tokens, len(places)))",
        "1 / len(sets)",
        "test_masked.py::test_exact_posterior_has_the_exact_likelihood_at_every_block_size",
    ),
    mutant(
        "ancestral steps without regard to what is masked already",
        "unmasking.py",
        "_uniform(len(logits), source) * now >= then",
        "_uniform(len(logits), source) >= then",
        "test_unmasking.py::test_ancestral_steps_fill_the_share_that_the_schedule_says",
    ),
    mutant(
        "first hitting fills from left to right",
        "unmasking.py",
        "_uniform(count, source).argsort()",
        "_uniform(count, source).argsort().sort().values",
        "test_unmasking.py::test_first_hitting_fills_each_place_as_often_as_any_other",
    ),
    mutant(
        "first hitting fills two at a time",
        "unmasking.py",
        "[: self._due(count, place)]",
        "[: self._due(count, place) + 1]",
        "test_unmasking.py::test_first_hitting_samples_are_the_chain_at_every_block_size",
    ),
    mutant(
        "samples without masks draw too",
        "unmasking.py",
        "            if len(at):\n",
        "            if generator is not None and not len(at):\n"
        "                torch.rand(1, generator=generator[row])\n"
        "            if len(at):\n",
        "test_unmasking.py::test_a_sample_does_not_depend_on_its_neighbours",
    ),
    mutant(
        "given tokens are drawn again",
        "unmasking.py",
        'at = (sample[row] == self.config["mask_token"]).nonzero()',
        "at = (sample[row] >= 0).nonzero()",
        "test_unmasking.py::test_a_sample_does_not_depend_on_its_neighbours",
    ),
    mutant(
        "given blocks are forgotten",
        "sampling.py",
        "pending = finished if pending is None else torch.cat((pending, finished), dim=1)",
        "pending = finished",
        "test_unmasking.py::test_blocks_that_are_given_are_not_computed",
    ),
    mutant(
        "an end in the prompt ends the text",
        "canvas.py",
        "first = max(start, places.start)",
        "first = places.start",
        "pipelines/test_text.py::test_an_end_in_the_prompt_ends_nothing",
    ),
    mutant(
        "a text goes on after its end",
        "canvas.py",
        "self.limits[row] = min(self.limits[row], end)",
        "pass",
        "pipelines/test_text.py::test_rows_are_what_each_is_alone",
    ),
    mutant(
        "characters are shown in halves",
        "tokenizers.py",
        'text = text.rstrip("\\ufffd")',
        "pass",
        "test_tokenizers.py::test_parts_are_whole_characters_and_end_with_the_text",
    ),
    mutant(
        "a document is read from its beginning in every sequence",
        "data/texts.py",
        "dtype=np.int64)[first + filled - begins :]",
        "dtype=np.int64)",
        "data/test_texts.py::test_every_row_is_its_part_of_the_stream",
    ),
    mutant(
        "sureness after the temperature",
        "unmasking.py",
        "surest = logits.softmax(-1).amax(-1)",
        "surest = self._probabilities(logits).amax(-1)",
        "test_unmasking.py::test_confidence_fills_all_that_is_sure_and_at_least_what_is_due",
    ),
]
